/** A disk with little room on it, for what happens when it is full: a tmpfs, mounted for all to see or in a namespace of its own. */

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { chmod, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface SmallDisk {
  /** An empty folder that is the whole disk. */
  path: string;
  /** Takes all the room that is left but for so many bytes. */
  fill(left?: number): Promise<void>;
  /** Gives back what `fill` took. */
  free(): void;
  remove(): Promise<void>;
}

/** Holds a mount that others reach by way of this process, until its standard input ends. */
const HOLD = 'mount -t tmpfs -o "size=$1,mode=755" tmpfs "$0" && echo mounted && exec cat';

/** A disk of so many bytes. Null where this user can mount nothing at all. */
export async function openSmallDisk(bytes: number): Promise<SmallDisk | null> {
  const parent = await mkdtemp(join(tmpdir(), "tacenda-disk-"));
  // A PostgreSQL that is started here is another user's.
  await chmod(parent, 0o711);
  const folder = join(parent, "disk");
  await mkdir(folder);
  const mounted = mountForAll(folder, bytes) ?? (await mountApart(folder, bytes));
  if (mounted === null) await rm(parent, { recursive: true });
  return (
    mounted && { ...onDisk(mounted.path), remove: () => mounted.end().then(() => rm(parent, { recursive: true })) }
  );
}

interface Mounted {
  path: string;
  end(): Promise<void>;
}

function mountForAll(folder: string, bytes: number): Mounted | null {
  const size = ["-o", `size=${bytes},mode=755`];
  if (spawnSync("mount", ["-t", "tmpfs", ...size, "tmpfs", folder]).status !== 0) return null;
  return {
    path: folder,
    end() {
      execFileSync("umount", [folder]);
      return Promise.resolve();
    },
  };
}

async function mountApart(folder: string, bytes: number): Promise<Mounted | null> {
  const holder = spawn("unshare", ["-Urm", "sh", "-c", HOLD, folder, String(bytes)], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const closed = once(holder, "close").catch(() => undefined);
  const isMounted = await Promise.race([once(holder.stdout, "data").then(() => true), closed.then(() => false)]);
  if (!isMounted) return null;
  return {
    path: join(`/proc/${holder.pid}/root`, folder),
    async end() {
      holder.stdin.destroy();
      await closed;
    },
  };
}

function onDisk(path: string): Omit<SmallDisk, "remove"> {
  const ballast = join(path, "ballast");
  const spare = join(path, "spare");
  return {
    path,
    fill(left = 0) {
      writeZeros(spare, left);
      writeZeros(ballast, Infinity);
      rmSync(spare);
      return Promise.resolve();
    },
    free() {
      rmSync(ballast);
    },
  };
}

/** So many bytes, or as many as there is room for. */
function writeZeros(file: string, bytes: number): void {
  const chunk = Buffer.alloc(65_536);
  const descriptor = openSync(file, "w");
  try {
    for (let written = 0; written < bytes;) {
      written += writeSync(descriptor, chunk, 0, Math.min(chunk.length, bytes - written));
    }
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
  } finally {
    closeSync(descriptor);
  }
}
