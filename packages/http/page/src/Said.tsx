/** What a run said, as text: no markup of it is read, and its direction is its own. */
import { pieces, type Reading } from "./controls.ts"

/** Text within an element that keeps it to itself: a block of `unicode-bidi: plaintext`, or `Said`. */
export const Marked = ({ reading, text }: { readonly text: string; readonly reading?: Reading | undefined }) => (
  <>
    {pieces(text, reading).map((piece, index) =>
      index % 2 === 0 ? (
        piece
      ) : (
        <span key={index} class="control">
          {piece}
        </span>
      ),
    )}
  </>
)

/** Text beside other text. */
export const Said = ({ text }: { readonly text: string }) => (
  <bdi>
    <Marked text={text} />
  </bdi>
)
