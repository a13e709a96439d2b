/** A child's side of the talk between processes: it answers one question after the other, and ends with its parent. */

/** What a child can be asked, by name. Payloads and results are what structured cloning can carry. */
export type Handlers = Record<string, (payload: never) => Promise<unknown>>;

/** From the parent. */
export interface Question {
  name: string;
  payload: unknown;
}

/** From the child. */
export type Reply = { result: unknown } | { failed: string };

/** Answers the parent's questions. When the parent lets go, or is no more, `close` runs and the process ends. */
export function answerParent(handlers: Handlers, close: () => Promise<void> = () => Promise.resolve()): void {
  process.on("message", ({ name, payload }: Question) => {
    void reply(handlers[name], payload).then((message) => process.send?.(message));
  });
  process.on("disconnect", () => {
    void close().finally(() => process.exit());
  });
  // A terminal interrupts parent and child alike: the child goes on until the parent has gone, and then cleans up.
  process.on("SIGINT", () => {});
}

async function reply(handler: Handlers[string] | undefined, payload: unknown): Promise<Reply> {
  try {
    return { result: await handler?.(payload as never) };
  } catch (error) {
    return { failed: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
