import { useEffect, useState } from "preact/hooks"
import type { Changes } from "./Changes.ts"

/** Draws again after changes: once for all that came before the screen is drawn. */
export const useChanges = (changes: Changes): void => {
  const [, setDrawn] = useState({})
  useEffect(() => {
    let frame = 0
    const draw = () => {
      frame = 0
      setDrawn({})
    }
    const unsubscribe = changes.subscribe(() => {
      // Nothing is drawn of a hidden tab but its title.
      if (document.visibilityState === "hidden") setDrawn({})
      else if (frame === 0) frame = requestAnimationFrame(draw)
    })
    // What changed before this.
    setDrawn({})
    return () => {
      unsubscribe()
      cancelAnimationFrame(frame)
    }
  }, [changes])
}
