/**
 * The text of archive and bus cursors:
 *
 * ```text
 * a1.<scope><id>.<position>.<checksum>
 * b1.<scope><id>.<instance>.<place>.<order>.<repair>.<run>.<checksum>
 * ```
 *
 * `:` of an id is `~`, so all of it is unreserved in URLs. An id may hold dots, what follows it never does. What is absent
 * is `-`. The repair place is its position and then, in turn, how many positions are missing and how many are there.
 */
import * as Result from "effect/Result"
import type { BusPlace, Place, RepairPlace, Scope } from "../Cursor.ts"

const version = 1

/** Characters of a repair place at most: with the longest id and numbers, a cursor stays under 512. */
const maxRepairLength = 300

const letters: Readonly<Record<Scope["kind"], string>> = { All: "L", Run: "R", Session: "S", Agent: "A", Filter: "F" }
const kinds = new Map(Object.entries(letters).map(([kind, letter]) => [letter, kind as Scope["kind"]]))

/**
 * Two multiplicative hashes, mixed: 64 bits. Every step is a bijection, so text in which one character was replaced
 * never has the same checksum; other text has it with a chance of 2^-64.
 */
class Checksum {
  #first: number
  #second: number

  constructor(first = 0x9e3779b9, second = 0x41c6ce57) {
    this.#first = first
    this.#second = second
  }

  add(text: string): this {
    let first = this.#first
    let second = this.#second
    for (let index = 0; index < text.length; index++) {
      const unit = text.charCodeAt(index)
      first = Math.imul(first ^ unit, 0x9e3779b1)
      second = Math.imul(second ^ unit, 0x5f356495)
    }
    this.#first = first
    this.#second = second
    return this
  }

  /** Goes on from here without changing this one. */
  fork(): Checksum {
    return new Checksum(this.#first, this.#second)
  }

  text(): string {
    let first = this.#first
    let second = this.#second
    first = Math.imul(first ^ (first >>> 16), 0x85ebca6b) ^ Math.imul(second ^ (second >>> 13), 0xc2b2ae35)
    second = Math.imul(second ^ (second >>> 16), 0x85ebca6b) ^ Math.imul(first ^ (first >>> 13), 0xc2b2ae35)
    return `${wordText(first)}${wordText(second)}`
  }
}

const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
/** Two digits for 12 bits: a cursor is written for every frame that is delivered. */
const pairs = Array.from({ length: 4096 }, (_, bits) => digits[bits >> 6]! + digits[bits & 63]!)

/** 32 bits as six digits. */
const wordText = (word: number): string => pairs[word >>> 24]! + pairs[(word >>> 12) & 4095]! + pairs[word & 4095]!

const checksumOf = (text: string): string => new Checksum().add(text).text()

const repairText = (repair: RepairPlace | undefined): string => {
  if (repair === undefined) return "-"
  const { ahead, position } = repair
  if (ahead.length === 0) return `${position}`
  let text = `${position}`
  let last = position
  // The oldest first: where not all of it fits, what is there and newer is taken for missing, and may be read twice.
  for (let index = 0; index < ahead.length; index += 2) {
    const hole = `_${ahead[index]! - last - 1}_${ahead[index + 1]! - ahead[index]! + 1}`
    if (text.length + hole.length > maxRepairLength) break
    text += hole
    last = ahead[index + 1]!
  }
  return text
}

/** Writes cursors of one scope; the checksum of what they share is worked out once. */
export const encoder = (scope: Scope): ((place: Place) => string) => {
  const name = `${version}.${letters[scope.kind]}${scope.id.replaceAll(":", "~")}.`
  const busName = `b${name}`
  const busChecksum = new Checksum().add(busName)
  return (place) => {
    if (place._tag === "Archive") {
      const text = `a${name}${place.position}.`
      return text + checksumOf(text)
    }
    const { instance, order, repair, run } = place
    const rest = `${instance}.${place.place}.${order === "arrival" ? "a" : "p"}.${repairText(repair)}.${run ?? "-"}.`
    return busName + rest + busChecksum.fork().add(rest).text()
  }
}

const number = "(?:0|[1-9][0-9]{0,15})"
const scopePattern = "([LRSAF])([A-Za-z0-9._~-]{0,128})"
const archivePattern = new RegExp(`^a1\\.${scopePattern}\\.(${number})\\.([A-Za-z0-9_-]{12})$`)
const busPattern = new RegExp(
  `^b1\\.${scopePattern}\\.([0-9a-z]{8})\\.(${number})\\.([ap])\\.(-|${number}(?:_${number}_${number})*)\\.(-|[0-9]{1,16}-[0-9a-z]{8})\\.([A-Za-z0-9_-]{12})$`,
)

const repairOf = (text: string): RepairPlace | undefined => {
  if (text === "-") return undefined
  const [position, ...lengths] = text.split("_").map(Number) as [number, ...Array<number>]
  const ahead: Array<number> = []
  let last = position
  for (let index = 0; index < lengths.length; index += 2) {
    const first = last + lengths[index]! + 1
    last = first + lengths[index + 1]! - 1
    ahead.push(first, last)
  }
  return { position, ahead }
}

const scopeOf = (letter: string, id: string): Scope => ({ kind: kinds.get(letter)!, id: id.replaceAll("~", ":") })

const isWhole = (place: Place): boolean =>
  place._tag === "Archive"
    ? Number.isSafeInteger(place.position)
    : Number.isSafeInteger(place.place) &&
      (place.repair === undefined ||
        (Number.isSafeInteger(place.repair.position) && place.repair.ahead.every((end) => Number.isSafeInteger(end))))

const parse = (text: string): { readonly scope: Scope; readonly place: Place } | undefined => {
  const archive = archivePattern.exec(text)
  if (archive !== null) {
    const place: Place = { _tag: "Archive", position: Number(archive[3]!) }
    return { scope: scopeOf(archive[1]!, archive[2]!), place }
  }
  const bus = busPattern.exec(text)
  if (bus === null) return undefined
  const place: BusPlace = {
    _tag: "Bus",
    instance: bus[3]!,
    place: Number(bus[4]!),
    order: bus[5] === "a" ? "arrival" : "position",
    repair: repairOf(bus[6]!),
    run: bus[7] === "-" ? undefined : bus[7],
  }
  return { scope: scopeOf(bus[1]!, bus[2]!), place }
}

/** The scope and the place in a text; the failure says why it is none. */
export const decode = (text: string): Result.Result<{ readonly scope: Scope; readonly place: Place }, string> => {
  const given = /^[ab](\d+)\./.exec(text.slice(0, 16))
  if (given !== null && given[1] !== String(version)) return Result.fail(`its version ${given[1]} is not ${version}`)
  const cursor = text.length < 512 ? parse(text) : undefined
  // Written again it must be the same: the checksum is checked by that, and other spellings of numbers are refused.
  return cursor !== undefined && isWhole(cursor.place) && encoder(cursor.scope)(cursor.place) === text
    ? Result.succeed(cursor)
    : Result.fail("it was altered, cut short, or never a cursor")
}
