/** Checks the options of the library's functions for callers that no compiler checks; spec/http.md § Starting. */

/** The names of all options of `T`, and which of them must be given. */
export type OptionNames<T> = { readonly [name in keyof Required<T>]: "required" | "optional" };

/**
 * Refuses options that lack a required one, and names that are none: a mistyped option would be ignored in silence.
 *
 * @throws {TypeError} naming `caller` and the option; it holds no value.
 */
export function checkOptions<T>(caller: string, options: unknown, names: OptionNames<T>): void {
  if (typeof options !== "object" || options === null) throw new TypeError(`${caller} needs an object of options.`);
  const given = new Map(Object.entries(options));
  for (const [name, need] of Object.entries(names)) {
    if (need === "required" && (given.get(name) ?? null) === null) throw new TypeError(`${caller} needs "${name}".`);
  }
  const known = Object.keys(names);
  const unknown = [...given.keys()].find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new TypeError(`${caller} knows no option "${unknown}". It knows ${known.join(", ")}.`);
  }
}
