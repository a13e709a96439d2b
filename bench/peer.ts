/** The closest peer's published client, where it is installed; bench/README.md says how it gets there. */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

/** Its functions that encrypt on the client's side. */
export interface PeerClient {
  hashKey(secret: string, key: string): Promise<string>;
  encryptValue(secret: string, key: string, value: string): Promise<string>;
  decryptValue(secret: string, key: string, encrypted: string): Promise<string>;
}

const PACKAGE = "@stackframe/stack-shared";
/** Put together where it is used: types must hold where the package is not installed. */
const VAULT = "dist/helpers/vault/client-side";
const FOLDER = join(import.meta.dirname, "node_modules", PACKAGE);

/** The peer's client, installed beside the benchmarks if need be; null, and the reason on stderr, when that fails. */
export async function loadPeer(): Promise<PeerClient | null> {
  if (!existsSync(FOLDER)) install();
  try {
    return (await import(`${PACKAGE}/${VAULT}`)) as PeerClient;
  } catch (error) {
    process.stderr.write(`Going on without the peer's client, which does not load: ${String(error)}\n`);
    return null;
  }
}

function install(): void {
  process.stderr.write("Installing the peer's client for comparison (71 MB): npm --prefix bench ci\n");
  spawnSync("npm", ["--prefix", import.meta.dirname, "ci"], {
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
}
