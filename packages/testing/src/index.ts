export * as Law from "./Law.ts"
export * as Mutant from "./Mutant.ts"
export * as Generator from "./Generator.ts"
export * as EventStoreLaws from "./EventStoreLaws.ts"
