/** The token of a server that asks for one: kept for the tab it was typed into, and no longer. */

const key = "throughline-token"

/** What a header takes: a request that carries anything else is never sent. */
const sendable = /^[\t\x20-\x7e\x80-\xff]+$/

/** The first character that no token has, if there is one. */
export const unusable = (given: string): string | undefined =>
  Array.from(given).find((character) => !sendable.test(character))

const stored = (): string | undefined => {
  try {
    const kept = sessionStorage.getItem(key) ?? ""
    return sendable.test(kept) ? kept : undefined
  } catch {
    // A browser that keeps nothing for this page.
    return undefined
  }
}

let token = stored()

export const keep = (given: string): void => {
  token = given
  try {
    sessionStorage.setItem(key, given)
  } catch {
    // It lasts until the page is left.
  }
}

/** What every request carries. */
export const headers = (): Record<string, string> => (token === undefined ? {} : { authorization: `Bearer ${token}` })
