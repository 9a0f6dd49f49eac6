/** Looking into JSON that may be anything. */

export type Fields = Readonly<Record<string, unknown>>

export const fieldsOf = (value: unknown): Fields | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined

export const textOf = (value: unknown): string => (typeof value === "string" ? value : "")

export const numberOf = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined)

/** For a person to read: text as it is, the rest as JSON over several lines. */
export const shown = (value: unknown): string =>
  typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value, undefined, 2)

/** The beginning, on one line. */
export const preview = (value: unknown): string => {
  const text = typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value)
  return oneLine(text)
}

const previewLength = 160

export const oneLine = (text: string): string => {
  const line = text
    .slice(0, 4 * previewLength)
    .replace(/\s+/g, " ")
    .trim()
  return line.length > previewLength ? `${line.slice(0, previewLength)}…` : line
}
