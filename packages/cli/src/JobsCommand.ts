/** The subcommands of `throughline jobs`, their flags, and what they promise. */
import { JobId, JobName, JobState } from "@throughline/core/JobRecord"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Backend from "./Backend.ts"
import * as Exit from "./Exit.ts"
import * as Jobs from "./Jobs.ts"
import { tell } from "./Output.ts"
import { store, toggle, withStore } from "./StoreFlag.ts"

const json = toggle("json", "Print one line of JSON for each")

const job = Argument.String("job").pipe(Argument.withSchema(JobId), Argument.withDescription("The job's id"))

const someJobs = job.pipe(Argument.variadic({ min: 1 }))

interface Said {
  readonly _tag: string
  readonly message: string
}

const withJobs = <A, E extends Said, R, E2 extends Said, R2>(
  flag: Option.Option<string>,
  use: Effect.Effect<A, E, R>,
  missing: Effect.Effect<void, E2, R2>,
) => withStore(flag, Backend.layerJobs, use, missing).pipe(Effect.mapError(Exit.ofError))

/** A page of a listing. */
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1000 }))

const listCommand = Command.make(
  "list",
  {
    state: Flag.Literals("state", JobState.literals).pipe(
      Flag.withDescription("Only jobs that are in it"),
      Flag.optional,
    ),
    name: Flag.String("name").pipe(
      Flag.withSchema(JobName),
      Flag.withMetavar("NAME"),
      Flag.withDescription("Only jobs of this name"),
      Flag.optional,
    ),
    limit: Flag.Int("limit").pipe(
      Flag.withSchema(Limit),
      Flag.withDescription("Jobs at most, from 1 to 1000"),
      Flag.withDefault(100),
    ),
    after: Flag.String("after").pipe(
      Flag.withSchema(JobId),
      Flag.withMetavar("JOB"),
      Flag.withDescription("Go on after this job, the last of the page before"),
      Flag.optional,
    ),
    store,
    json,
  },
  (input) =>
    withJobs(
      input.store,
      Jobs.list(
        {
          state: Option.getOrUndefined(input.state),
          name: Option.getOrUndefined(input.name),
          limit: input.limit,
          after: Option.getOrUndefined(input.after),
        },
        input.json,
      ),
      tell("no jobs"),
    ),
).pipe(
  Command.withShortDescription("List jobs"),
  Command.withDescription(
    "Lists jobs in the order in which they were enqueued: state, priority, failed attempts, when it is ready or since when it is as it is, the last failure. A page at a time; standard error says how to go on. Settled jobs are listed for as long as they are kept.",
  ),
)

const showCommand = Command.make("show", { job, store, json }, (input) =>
  withJobs(input.store, Jobs.show(input.job, input.json), Effect.fail(Jobs.unknownJob(input.job))),
).pipe(
  Command.withShortDescription("Show all that is kept of a job"),
  Command.withDescription(
    "Shows a job with its payload, each failure, its progress and its result. Exits with 3 if the job is not known: it never was, or is no longer kept.",
  ),
)

const retryCommand = Command.make("retry", { jobs: someJobs, store, json }, (input) =>
  withJobs(input.store, Jobs.retry(input.jobs, input.json), Effect.fail(Jobs.unknownJob(input.jobs[0]!))),
).pipe(
  Command.withShortDescription("Run dead jobs again"),
  Command.withDescription(
    "Takes jobs from the dead letters and makes them ready at once, as if they were new: all attempts are before them. Exits with 3 if one is not known, with 5 if one is not dead or another job holds its unique key; the others are retried all the same.",
  ),
  Command.withExamples([
    {
      command:
        "throughline jobs list --state dead --name send-mail --json | jq -r .id | xargs -r throughline jobs retry",
      description: "Retry all dead jobs of a name",
    },
  ]),
)

const cancelCommand = Command.make("cancel", { jobs: someJobs, store, json }, (input) =>
  withJobs(input.store, Jobs.cancel(input.jobs, input.json), Effect.fail(Jobs.unknownJob(input.jobs[0]!))),
).pipe(
  Command.withShortDescription("Cancel jobs"),
  Command.withDescription(
    "Cancels jobs: at once where one is not running, else its worker, in whatever process, is told to interrupt it. One that settled before is left as it is. Exits with 3 if one is not known; the others are cancelled all the same.",
  ),
)

const countsCommand = Command.make("counts", { store, json }, (input) =>
  withJobs(input.store, Jobs.counts(input.json), tell("no jobs")),
).pipe(
  Command.withShortDescription("Count jobs by name and state"),
  Command.withDescription(
    "Counts the jobs that are kept, by name and state. Jobs that wait although nothing runs are of a name that no process handles.",
  ),
)

export const jobsCommand = Command.make("jobs").pipe(
  Command.withShortDescription("List, show, retry, cancel and count jobs"),
  Command.withDescription(
    "The background jobs of a program, in its SQLite file or on its Redis: there those under the prefix throughline:jobs, or what ?prefix= says and jobs.",
  ),
  Command.withSubcommands([listCommand, showCommand, retryCommand, cancelCommand, countsCommand]),
)
