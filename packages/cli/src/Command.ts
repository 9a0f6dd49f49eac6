/** The `throughline` command: its subcommands, their flags, and what they promise. */
import { AgentId, RunId, SessionId } from "@throughline/core/Envelope"
import * as Argument from "effect/cli/Argument"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Backend from "./Backend.ts"
import * as Exit from "./Exit.ts"
import * as Invocation from "./Invocation.ts"
import { jobsCommand } from "./JobsCommand.ts"
import { Format } from "./LineFormat.ts"
import { record } from "./Record.ts"
import { Output, tell } from "./Output.ts"
import { list, type ListRequest, remove } from "./Runs.ts"
import * as StoreFlag from "./StoreFlag.ts"
import { tail, unknownRun } from "./Tail.ts"

const session = (description: string) =>
  Flag.String("session").pipe(
    Flag.withSchema(SessionId),
    Flag.withMetavar("ID"),
    Flag.withDescription(description),
    Flag.optional,
  )

const runArgument = Argument.String("run").pipe(Argument.withSchema(RunId), Argument.withDescription("The run's id"))

const recordCommand = Command.make(
  "record",
  {
    run: Flag.String("run").pipe(
      Flag.withSchema(RunId),
      Flag.withMetavar("ID"),
      Flag.withDescription(
        "The new run's id: 1 to 128 characters of A-Z a-z 0-9 . _ : -. An id is for one recorder: two that start with it at the same moment write into one run. Default: a UUID",
      ),
      Flag.optional,
    ),
    session: session("A group the run belongs to, such as a chat or a ticket"),
    agent: Flag.String("agent").pipe(
      Flag.withSchema(AgentId),
      Flag.withMetavar("ID"),
      Flag.withDescription("The agent that the events come from"),
      Flag.optional,
    ),
    store: StoreFlag.store.pipe(
      Flag.withDescription(
        `Where to record: sqlite:PATH, ${StoreFlag.redisUrls}, or memory: to only try it. Default: THROUGHLINE_STORE, else one file in your data directory`,
      ),
    ),
    format: Flag.Literals("format", Format.literals).pipe(
      Flag.withDescription(
        "What a line of standard output is: text (lines, the default), JSON (ndjson), or the JSON of an agent event (agent). A line that is something else is recorded as text and counted",
      ),
      Flag.withDefault("lines"),
    ),
    serve: StoreFlag.toggle("serve", "Serve the run over HTTP while it is recorded, and print a link to it"),
    command: Argument.String("command").pipe(
      Argument.withDescription("The command and its arguments, after --. Without it, standard input is recorded"),
      Argument.variadic(),
    ),
  },
  (input) =>
    record({
      run: Option.getOrUndefined(input.run),
      session: Option.getOrUndefined(input.session),
      agent: Option.getOrUndefined(input.agent),
      store: Option.getOrUndefined(input.store),
      format: input.format,
      serve: input.serve,
      command: input.command,
    }).pipe(Effect.mapError(Exit.ofError)),
).pipe(
  Command.withShortDescription("Run a command and record its output as a run"),
  Command.withDescription(
    "Runs a command, passes its output through untouched, and records every line as an event of a new run. The run ends as the command does: completed on exit 0, failed on another code or a signal, cancelled if SIGINT, SIGTERM or SIGHUP reaches this command, which hands it on. Exits with the command's code (128 + n after signal n); with 4 if that is 0 but not everything was stored, which standard error says. A store that doesn't answer holds up the command's start for 10 s at most, and once it runs for 2 s. Output goes through pipes, so the command sees no terminal there. Its command line is recorded too, unless the format is agent.",
  ),
  Command.withExamples([
    { command: "throughline record -- npm test", description: "Record a command" },
    { command: "throughline record --run build-7 --session ticket-42 -- make -j4", description: "Name the run" },
    {
      command: "agent --events | throughline record --format agent",
      description: "Record what another program prints",
    },
  ]),
)

/** A place in a run, as a seq or as a cursor. */
const Place = Schema.String.check(
  Schema.isPattern(/^(0|[1-9][0-9]{0,15})(-[a-z0-9]{8})?$/, {
    expected: "a seq from 0 up, or a cursor <seq>-<generation>",
  }),
)

const { wrong } = StoreFlag

/** What is done to the runs of a store. */
const withStore = <A, E, R, A2, E2, R2>(
  flag: Option.Option<string>,
  use: Effect.Effect<A, E, R>,
  missing: Effect.Effect<A2, E2, R2> | undefined,
) => StoreFlag.withStore(flag, Backend.layer, use, missing)

const tailCommand = Command.make(
  "tail",
  {
    run: runArgument,
    after: Flag.String("after").pipe(
      Flag.withSchema(Place),
      Flag.withMetavar("SEQ"),
      Flag.withDescription("Start after this seq, or after a cursor <seq>-<generation>. Default: from the start"),
      Flag.optional,
    ),
    follow: StoreFlag.toggle("follow", "Go on with what is written from now on, until the run ends").pipe(
      Flag.withAlias("f"),
    ),
    wait: StoreFlag.toggle("wait", "With --follow: wait for a run that isn't known yet"),
    store: StoreFlag.store,
    json: StoreFlag.toggle("json", "Print one envelope a line, as JSON"),
  },
  Effect.fnUntraced(function* (input) {
    if (input.wait && !input.follow) return yield* wrong("--wait alone: expected --follow --wait")
    const after = Option.getOrUndefined(input.after)
    yield* withStore(
      input.store,
      tail({ run: input.run, after, follow: input.follow, wait: input.wait, json: input.json }),
      input.wait ? undefined : unknownRun(input.run),
    )
  }, Effect.mapError(Exit.ofError)),
).pipe(
  Command.withShortDescription("Print a run's events, and follow it"),
  Command.withDescription(
    "Prints each event of a run once, in order: up to its head, or with --follow to its end, whenever that comes. Exits with 0 at the end (without --follow: at the head), with 3 if the run is not known. Events past their retention are skipped, which standard error says.",
  ),
  Command.withExamples([
    { command: "throughline tail build-7 --follow", description: "Watch a run" },
    { command: "throughline tail build-7 --follow --after 120 --json", description: "Resume after event 120, as JSON" },
  ]),
)

const lsCommand = Command.make(
  "ls",
  {
    session: session("Only runs of this session"),
    status: Flag.Literals("status", ["running", "completed", "failed", "cancelled"]).pipe(
      Flag.withDescription("Only runs that stand like this"),
      Flag.optional,
    ),
    store: StoreFlag.store,
    json: StoreFlag.toggle("json", "Print one run a line, as JSON"),
  },
  (input) => {
    const request: ListRequest = {
      session: Option.getOrUndefined(input.session),
      status: Option.getOrUndefined(input.status),
      json: input.json,
    }
    return withStore(input.store, list(request), tell("no runs")).pipe(Effect.mapError(Exit.ofError))
  },
).pipe(
  Command.withDescription(
    "Lists runs, last started first: status, number of events, duration, age of the last event. A run whose producer is gone is running until somebody tails it.",
  ),
  Command.withShortDescription("List runs"),
)

const rmCommand = Command.make("rm", { run: runArgument, store: StoreFlag.store }, (input) =>
  withStore(input.store, remove(input.run), unknownRun(input.run)).pipe(Effect.mapError(Exit.ofError)),
).pipe(
  Command.withDescription(
    "Removes a run and all its events. Exits with 3 if the run is not known. Wait for a running run to end first: its recorder isn't stopped. A part of what that records next is lost, and the rest can begin the run anew.",
  ),
  Command.withShortDescription("Remove a run"),
)

const serveCommand = Command.make(
  "serve",
  {
    port: Flag.Int("port").pipe(
      Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 }))),
      Flag.withMetavar("PORT"),
      Flag.withDescription("The port to listen on; 0: any that is free. Default: 4096"),
      Flag.withDefault(4096),
    ),
    host: Flag.String("host").pipe(
      Flag.withMetavar("ADDRESS"),
      Flag.withDescription(
        "The address of this machine to listen on. Default: 127.0.0.1, which only this machine reaches",
      ),
      Flag.withDefault("127.0.0.1"),
    ),
    store: StoreFlag.store.pipe(
      Flag.withDescription(
        `What to serve: sqlite:PATH, ${StoreFlag.redisUrls}, or memory: for what is appended over HTTP alone. Default: THROUGHLINE_STORE, else one file in your data directory`,
      ),
    ),
    token: Flag.Redacted("token").pipe(
      Flag.withMetavar("TOKEN"),
      Flag.withDescription(
        "Ask for this token, of at least 16 characters, as Authorization: Bearer. Default: THROUGHLINE_TOKEN, which other users of this machine can't see in its list of processes; else nothing is asked for",
      ),
      Flag.optional,
    ),
    open: StoreFlag.toggle("open", "Without a token, on an address that others can reach: let anyone in"),
  },
  Effect.fnUntraced(function* (input) {
    // The server is half of what there is to load, and the other commands don't need it.
    const { serve } = yield* Effect.promise(() => import("./Serve.ts"))
    yield* serve({
      port: input.port,
      host: input.host,
      store: Option.getOrUndefined(input.store),
      token: Option.getOrUndefined(input.token),
      open: input.open,
    })
  }, Effect.mapError(Exit.ofError)),
).pipe(
  Command.withShortDescription("Serve runs over HTTP"),
  Command.withDescription(
    "Serves the runs of a store over HTTP: a page to watch them on, and resumable event streams for programs. Prints its address, and serves until a signal stops it; streams are then told to come back.",
  ),
  Command.withExamples([
    { command: "throughline serve", description: "Watch this machine's runs in a browser" },
    {
      command: "THROUGHLINE_TOKEN=… throughline serve --host 0.0.0.0",
      description: "Serve others, who have the token",
    },
  ]),
)

/** The whole command. */
export const command = Command.make("throughline").pipe(
  Command.withDescription(
    "Records what a process prints as a run: stored once, followed live, resumed anywhere, served over HTTP. Shows and mends the jobs of a program.",
  ),
  Command.withSubcommands([recordCommand, serveCommand, tailCommand, lsCommand, rmCommand, jobsCommand]),
)

/** Help where it was asked for; what is wrong with a command line, and only that, on standard error. */
const presenter = (output: Output["Service"]): CliOutput.Presenter => ({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.gen(function* () {
          for (const error of event.errors) yield* tell(Invocation.problem(error, event.helpDoc))
          yield* tell(`try: ${event.commandPath.join(" ")} --help`)
        }).pipe(Effect.provideService(Output, output))
      : CliOutput.defaultPresenter.present(event),
})

const builtIns = [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions]

/** Runs the command on its arguments; fails with the exit code, once what there is to say has been said. */
export const run = Effect.fnUntraced(
  function* (args: ReadonlyArray<string>, version: string) {
    const output = yield* Output
    yield* Command.runWith(command, { version })(args).pipe(
      Effect.provideService(CliOutput.Presenter, presenter(output)),
      Effect.provideService(CliConfig.CliConfig, CliConfig.make({ builtIns })),
    )
  },
  Effect.catchTag("CommandFailed", ({ code, message }) => Effect.andThen(tell(message), new Exit.Exited({ code }))),
  Effect.catchIf(CliError.isCliError, () => Effect.fail(new Exit.Exited({ code: Exit.usage }))),
)
