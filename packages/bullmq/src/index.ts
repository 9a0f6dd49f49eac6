export * as BullmqJobEngine from "./BullmqJobEngine.ts"
