/** What the servers that are compared under load have in common. */

/** How to reach a server. */
export interface Target {
  url: string;
  token: string;
}

/** What a server's process can be asked. */
export interface ServerHandlers {
  [name: string]: (payload: never) => Promise<unknown>;
  /** How to reach it. */
  target(payload: null): Promise<Target>;
  /** Milliseconds of processor time that the process has used, all its threads together. */
  cpu(payload: null): Promise<number>;
}

export function usedCpu(): Promise<number> {
  const { user, system } = process.cpuUsage();
  return Promise.resolve((user + system) / 1000);
}
