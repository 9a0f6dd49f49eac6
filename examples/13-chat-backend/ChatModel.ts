/**
 * A `LanguageModel` that streams text from an API that speaks OpenAI's chat completions, at `OPENAI_BASE_URL`
 * (`https://api.openai.com/v1` by default), with the model `OPENAI_MODEL`. Effect's own provider packages do much more;
 * whichever is used, the rest of the example stays as it is.
 */
import { Config, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { AiError, LanguageModel, type Prompt, type Response } from "effect/ai"
import { Sse } from "effect/encoding"
import { FetchHttpClient, HttpClient, HttpClientRequest } from "effect/http"

const Delta = Schema.fromJsonString(
  Schema.Struct({
    choices: Schema.Array(
      Schema.Struct({ delta: Schema.Struct({ content: Schema.optional(Schema.NullOr(Schema.String)) }) }),
    ),
  }),
)
const decodeDelta = Schema.decodeUnknownEffect(Delta)

const failed = (cause: unknown) =>
  AiError.make({
    module: "ChatModel",
    method: "streamText",
    reason: new AiError.UnknownError({ description: String(cause) }),
  })

/** The text of a prompt's messages, which is all that this model reads. */
const messagesOf = ({ content }: Prompt.Prompt) =>
  content.map((message) => ({
    role: message.role,
    content:
      typeof message.content === "string"
        ? message.content
        : message.content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join(""),
  }))

const make = Effect.fnUntraced(function* (key: Redacted.Redacted) {
  const base = yield* Config.String("OPENAI_BASE_URL").pipe(Config.withDefault("https://api.openai.com/v1"))
  const model = yield* Config.String("OPENAI_MODEL").pipe(Config.withDefault("gpt-4.1-mini"))
  const client = HttpClient.filterStatusOk(yield* HttpClient.HttpClient)
  const id = "text"

  const textOf = (prompt: Prompt.Prompt): Stream.Stream<string, AiError.AiError> =>
    HttpClientRequest.post(`${base}/chat/completions`).pipe(
      HttpClientRequest.bearerToken(key),
      HttpClientRequest.bodyJsonUnsafe({ model, messages: messagesOf(prompt), stream: true }),
      client.execute,
      Effect.map(({ stream }) => stream),
      Stream.unwrap,
      Stream.decodeText(),
      Stream.pipeThroughChannel(Sse.decode()),
      Stream.takeWhile(({ data }) => data !== "[DONE]"),
      Stream.mapEffect(({ data }) => decodeDelta(data)),
      Stream.map(({ choices }) => choices[0]?.delta.content ?? ""),
      Stream.filter((text) => text !== ""),
      Stream.mapError(failed),
    )

  return yield* LanguageModel.make({
    generateText: ({ prompt }) =>
      Effect.map(Stream.mkString(textOf(prompt)), (text): Array<Response.PartEncoded> => [{ type: "text", text }]),
    streamText: ({ prompt }) =>
      Stream.map(textOf(prompt), (delta): Response.StreamPartEncoded => ({ type: "text-delta", id, delta })),
  })
})

export const layer = (key: Redacted.Redacted) =>
  Layer.provide(Layer.effect(LanguageModel.LanguageModel, make(key)), FetchHttpClient.layer)
