export * as Law from "./Law.ts"
export * as Mutant from "./Mutant.ts"
