/** What is wrong with a command line, said with what was expected. */
import type * as CliError from "effect/cli/CliError"
import type { HelpDoc } from "effect/cli/HelpDoc"
import * as Render from "./Render.ts"

const quote = (text: string) => JSON.stringify(Render.safe(text))

const flagNames = (help: HelpDoc): string =>
  [...help.flags, ...(help.globalFlags ?? [])].map(({ name }) => `--${name}`).join(", ")

const subcommandNames = (help: HelpDoc): string =>
  (help.subcommands ?? []).flatMap(({ commands }) => commands.map(({ name }) => name)).join(", ")

/** One line of the problem and of what was expected, by the help of the command that was meant. */
export const problem = (error: CliError.NonShowHelpErrors, help: HelpDoc): string => {
  switch (error._tag) {
    case "UnrecognizedOption":
      return `${quote(error.option)} is no flag here: expected ${flagNames(help)}`
    case "UnknownSubcommand":
      return `${quote(error.subcommand)} is no command: expected ${subcommandNames(help)}`
    case "InvalidValue": {
      const what = error.kind === "flag" ? `--${error.option}` : error.option
      // A schema's answer says "expected" itself.
      const expected = error.expected.replace(/^Schema validation failed: Expected /, "")
      return `${what} ${quote(error.value)} won't do: expected ${expected}`
    }
    case "MissingArgument":
      return `${error.argument} is missing: expected ${help.usage}`
    case "UnexpectedArgument":
      return `${error.arguments.map(quote).join(" ")} is too much: expected ${help.usage}`
    default:
      return error.message
  }
}
