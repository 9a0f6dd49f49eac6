/** Where the page is: which run its address names, and where the routes are. */

export interface Place {
  readonly run: string | undefined
  /** Of a signed link: it reads this run and does nothing else. */
  readonly token: string | undefined
}

/** The place that `location.hash` names. */
export const placeOf = (hash: string): Place => {
  const query = new URLSearchParams(hash.replace(/^#/, ""))
  return { run: query.get("run") ?? undefined, token: query.get("token") ?? undefined }
}

/** The address of a run on this page. */
export const linkTo = (run: string): string => `#${new URLSearchParams({ run }).toString()}`

/** A route, under whatever prefix the page was served. */
export const route = (path: string): URL => new URL(path, import.meta.url)

/** The events of a run; an id that is none is the server's to refuse. */
export const eventsOf = ({ run, token }: Place): URL => {
  const url = route(`runs/${encodeURIComponent(run ?? "")}/events`)
  if (token !== undefined) url.searchParams.set("token", token)
  return url
}
