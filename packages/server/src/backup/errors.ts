/** Why a backup cannot be made or used, in words for the person at the terminal; spec/envelope.md § Backups. */

/** The message says what to do and holds no key and no value. */
export class BackupError extends Error {
  override name = "BackupError";
}

/** A file of a backup is not what was written. */
export class DamagedBackupError extends BackupError {
  override name = "DamagedBackupError";
  /** `line` counts from 1. */
  constructor(file: string, line: number, what: string) {
    super(`${file} is damaged at line ${line}: ${what}. Use another copy of this backup, or an older one.`);
  }
}
