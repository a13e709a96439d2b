/** Numbers with their nouns, for sentences to a person. */

/** "1 store", "2 stores". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
