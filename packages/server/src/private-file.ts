/** Files and folders that only their owner can read, and that a loss of power leaves whole; spec/http.md § Starting. */

import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Writes `text` to `file`, mode 0600, whatever was there before. It goes to a temporary file in the same folder first,
 * which `place` puts in its place once it is on the disk: by default it replaces `file`. When this resolves the file and
 * its name are on the disk; when it rejects, with what the system says, no temporary file is left.
 */
export async function writePrivateFile(
  file: string,
  text: string,
  place: (temporary: string, file: string) => Promise<void> = rename,
): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await using handle = await open(temporary, "wx", 0o600);
    await handle.writeFile(text);
    await handle.sync();
    await place(temporary, file);
  } finally {
    await unlink(temporary).catch(() => undefined);
  }
  await syncFolder(dirname(file));
}

/** Makes an absent folder, mode 0700, and the folders above it that are missing. When this resolves they are on the disk. */
export async function makePrivateFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o700 });
  // The mode given to mkdir is cut by the umask.
  await chmod(folder, 0o700);
  // A name is on the disk once the folder that holds it is.
  for (let made = folder; first !== undefined && made.length >= first.length; made = dirname(made)) {
    await syncFolder(dirname(made));
  }
}

/** Resolves when the names in the folder are on the disk. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder.
  if (process.platform === "win32") return;
  await using handle = await open(folder, "r");
  await handle.sync();
}
