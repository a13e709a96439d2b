/**
 * Decides whether calls that overlapped can be put into one order, in which each gave what it did give: the search of Wing and
 * Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of what was tried ("Testing for Linearizability").
 */

/** A call as its caller saw it. Times are of one clock. */
export interface Call<Operation> {
  operation: Operation;
  begin: number;
  /** Infinity when nobody knows how it ended: it took effect at any time after its begin, or never. */
  end: number;
}

/** What is called, as if every call came alone. */
export interface Model<State, Operation> {
  initial: State;
  /** The state after it (`state` itself where that is the same), or null when in `state` it could not give what it gave. */
  step(state: State, operation: Operation): State | null;
  /** Equal for equal states only. */
  nameOf(state: State): string;
}

export type Verdict<Operation> =
  | { linearizable: true }
  /** The longest order that was found, and the calls of which none could be next. */
  | { linearizable: false; order: Operation[]; stuck: Operation[] };

/** More than any history of ours takes by far; then it is an error, and not a verdict. */
const MOST_TRIALS = 100_000;

export function judgeHistory<State, Operation>(
  model: Model<State, Operation>,
  history: readonly Call<Operation>[],
): Verdict<Operation> {
  const calls = [...history].sort((a, b) => a.begin - b.begin);
  const tried = new Set<string>();
  let best: { order: Operation[]; stuck: Operation[] } = { order: [], stuck: [] };

  /** Whether the calls that are left, in the order of their begins, can follow `order`, which led to `state`. */
  const search = (left: readonly Call<Operation>[], state: State, order: Operation[]): boolean => {
    if (left.every(({ end }) => end === Infinity)) return true;
    const next = candidates(left);
    if (best.stuck.length === 0 || order.length > best.order.length) {
      best = { order, stuck: next.map(({ operation }) => operation) };
    }
    // What changes nothing, and can be next, is next: an order in which it comes later is as good without it there.
    const idle = next.find(({ operation }) => model.step(state, operation) === state);
    for (const call of idle === undefined ? next : [idle]) {
      const after = model.step(state, call.operation);
      if (after === null) continue;
      const rest = left.filter((one) => one !== call);
      const name = `${model.nameOf(after)} ${rest.map(({ begin }) => begin).join()}`;
      if (tried.has(name)) continue;
      tried.add(name);
      if (tried.size > MOST_TRIALS) throw new Error("The history is too long to be judged.");
      if (search(rest, after, [...order, call.operation])) return true;
    }
    return false;
  };
  return search(calls, model.initial, []) ? { linearizable: true } : { linearizable: false, ...best };
}

/** The calls that can be the next one: those that began before any of the others had ended. */
function candidates<Operation>(left: readonly Call<Operation>[]): Call<Operation>[] {
  const firstEnd = Math.min(...left.map(({ end }) => end));
  return left.filter(({ begin }) => begin < firstEnd);
}
