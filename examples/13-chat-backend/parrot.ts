/** What answers where no model does: it says the question again, a word a line, as slowly as a model would. */
import { setTimeout } from "node:timers/promises"

const question = process.argv[2] ?? ""
const answer = `You asked: ${question} I am a parrot and know nothing of it, but I can say it again, slowly, word by word, so that you have the time to reload this page, or to stop the server and start it again: ${question}`

for (const word of answer.split(" ")) {
  console.log(word)
  await setTimeout(40)
}
