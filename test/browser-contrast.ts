/**
 * Runs in a page: the visible texts whose contrast is under 4.5, which is what the Web Content Accessibility Guidelines ask
 * for (1.4.3, level AA). It names nothing outside of itself, as it is sent there as text.
 */
export const faintTexts = (): ReadonlyArray<string> => {
  // Colours come in any notation; painted, they are three numbers.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true })!
  const paint = (color: string, opacity = 1) => {
    canvas.globalAlpha = opacity
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
  }
  const luminance = () => {
    const [red, green, blue] = Array.from(canvas.getImageData(0, 0, 1, 1).data, (value) => {
      const part = value / 255
      return part <= 0.040_45 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!
  }
  const found: Array<string> = []
  for (const element of document.querySelectorAll<HTMLElement>("#page *")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent!.trim() !== "")
    if (!isText || !element.checkVisibility()) continue
    const grounds: Array<string> = []
    let opacity = 1
    for (let at: Element | null = element; at !== null; at = at.parentElement) {
      const style = getComputedStyle(at)
      grounds.unshift(style.backgroundColor)
      opacity *= Number(style.opacity)
    }
    canvas.clearRect(0, 0, 1, 1)
    for (const ground of grounds) paint(ground)
    const ground = luminance()
    paint(getComputedStyle(element).color, opacity)
    const text = luminance()
    const contrast = (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05)
    if (contrast < 4.5) found.push(`${element.className}: ${element.textContent} (${contrast.toFixed(2)})`)
  }
  return found
}
