/**
 * Positions: the order of events over all runs, as numbers.
 *
 * The index of appends gives its entries the ids `0-1`, `0-2`, … in the order they become visible; an entry's events have
 * the positions from `entry * 4096` on. So a position is never given out twice, needs no counter of its own, and names its
 * entry.
 */

/** Events in one append at most. */
export const perAppend = 4096

/** The id of the index entry that a position belongs to. */
export const entryOf = (position: number): string => `0-${Math.floor(position / perAppend)}`

/** How many events of the append come before the one at a position. */
export const offsetOf = (position: number): number => position % perAppend

/** The position of an append's first event, by its entry's id. */
export const firstOf = (entry: string): number => Number(entry.slice(2)) * perAppend
