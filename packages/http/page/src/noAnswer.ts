/** What is said of a request that gets no answer: what holds it up may be in another tab. */

/** For so many ms there is nothing to say. */
export const patience = 5000

export const noAnswer =
  "No answer yet: the server is busy, or other tabs hold all the connections that this browser opens to it. Closing one of them helps."
