/** Times, durations and numbers for a person to read. Formats are made once: made anew they take most of a drawing. */

const numbers = new Intl.NumberFormat("en")

export const numeral = (value: number): string => numbers.format(value)

const clocks = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" })

/** The time of day, to the second. */
export const clock = (at: string): string => {
  const ms = Date.parse(at)
  return Number.isNaN(ms) ? "" : clocks.format(ms)
}

export const duration = (ms: number): string => {
  const seconds = Math.max(ms, 0) / 1000
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 60) return `${Math.floor(seconds)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`
}

export const ago = (at: string, now: number): string => {
  const seconds = Math.max(now - Date.parse(at), 0) / 1000
  if (seconds < 45) return "just now"
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min ago`
  const hours = Math.round(minutes / 60)
  return hours < 36 ? `${hours} h ago` : `${Math.round(hours / 24)} days ago`
}

export const between = (from: string, to: string): string => duration(Date.parse(to) - Date.parse(from))
