/** The token of a server that asks for one: kept for the tab it was typed into, and no longer. */

const key = "throughline-token"

const stored = (): string | undefined => {
  try {
    return sessionStorage.getItem(key) ?? undefined
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
