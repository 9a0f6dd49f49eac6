/** Which of the media types a client accepts it is answered with (RFC 9110, section 12.5.1). */

interface Range {
  readonly type: string
  readonly quality: number
}

const rangesOf = (accept: string): ReadonlyArray<Range> =>
  accept.split(",").flatMap((part) => {
    const [type = "", ...parameters] = part.split(";").map((text) => text.trim().toLowerCase())
    if (type === "") return []
    const quality = parameters.find((parameter) => parameter.startsWith("q="))
    const value = quality === undefined ? 1 : Number(quality.slice(2))
    return [{ type, quality: value >= 0 && value <= 1 ? value : 0 }]
  })

/** How exactly a range names a type: 2 for the type itself, 0 for any, -1 for another. */
const exactness = (range: string, type: string): number => {
  if (range === type) return 2
  if (range === "*/*") return 0
  return range.endsWith("/*") && type.startsWith(range.slice(0, -1)) ? 1 : -1
}

/** The type to answer with, of those offered, the server's favourite first; `undefined` where none is accepted. */
export const negotiate = <const A extends string>(
  accept: string | undefined,
  offered: ReadonlyArray<A>,
): A | undefined => {
  if (accept === undefined || accept.trim() === "") return offered[0]
  const ranges = rangesOf(accept)
  let best: { readonly type: A; readonly quality: number; readonly exact: number } | undefined
  for (const type of offered) {
    let exact = -1
    let quality = 0
    for (const range of ranges) {
      const match = exactness(range.type, type)
      if (match > exact) {
        exact = match
        quality = range.quality
      }
    }
    if (exact === -1 || quality === 0) continue
    if (best === undefined || quality > best.quality || (quality === best.quality && exact > best.exact)) {
      best = { type, quality, exact }
    }
  }
  return best?.type
}
