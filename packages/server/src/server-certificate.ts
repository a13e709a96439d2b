/** The certificate that the server shows: read when it starts, and again whenever its files are renewed; spec/http.md § TLS. */

import type { Logger } from "./logger.js";
import { StartupError } from "./startup-error.js";
import { describeInvalidity, readTlsFiles, type KeyPair, type TlsFiles } from "./tls-files.js";

const LOOK_MILLISECONDS = 60_000;

export interface ServerCertificateOptions {
  files: TlsFiles;
  logger: Logger;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** How often to look whether the files were renewed, in milliseconds; every minute by default. */
  interval?: number | undefined;
  /** Told until when the certificate is valid, in milliseconds since the epoch, whenever there is another one. */
  onExpiry?: ((validTo: number) => void) | undefined;
}

/**
 * Looks at what the files hold, and not at events of the file system: links that are put in the place of others, as container
 * platforms do, and network drives give none.
 */
export class ServerCertificate {
  readonly #options: ServerCertificateOptions;
  #current: KeyPair;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  /** What was wrong at the last look, and whether the log has it. */
  #problem: string | null = null;
  #told = false;

  private constructor(options: ServerCertificateOptions, first: KeyPair) {
    this.#options = options;
    this.#current = first;
    options.onExpiry?.(first.validTo);
  }

  /** Reads the files. One that is not valid now is only warned of. @throws {StartupError} as readTlsFiles does */
  static async open(options: ServerCertificateOptions): Promise<ServerCertificate> {
    const first = await readTlsFiles(options.files);
    const invalidity = describeInvalidity(first, options.now());
    if (invalidity !== null) options.logger.warn({}, `${invalidity}: clients refuse it`);
    return new ServerCertificate(options, first);
  }

  /** What the files held last that was good. */
  get current(): KeyPair {
    return this.#current;
  }

  /** From now on gives every renewed pair to `use`; call it once. */
  follow(use: (renewed: KeyPair) => void): void {
    if (this.#stopped) return;
    const look = () => void this.#look(use).then(() => this.follow(use));
    this.#timer = setTimeout(look, this.#options.interval ?? LOOK_MILLISECONDS).unref();
  }

  /** Looks no more. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** Never rejects. */
  async #look(use: (renewed: KeyPair) => void): Promise<void> {
    const { files, logger, now, onExpiry } = this.#options;
    try {
      const pair = await readTlsFiles(files);
      if (this.#stopped) return;
      if (!isSame(pair, this.#current)) {
        const invalidity = describeInvalidity(pair, now());
        if (invalidity !== null) throw new StartupError(invalidity);
        use(pair);
        this.#current = pair;
        onExpiry?.(pair.validTo);
        logger.info({ validTo: new Date(pair.validTo).toISOString() }, "the certificate was renewed");
      }
      this.#problem = null;
    } catch (error) {
      this.#note(error instanceof StartupError ? error.message : "it failed");
    }
  }

  /** Two files are not replaced in one moment: what is wrong only once was a look in between. */
  #note(problem: string): void {
    if (problem !== this.#problem) {
      this.#problem = problem;
      this.#told = false;
    } else if (!this.#told) {
      this.#told = true;
      this.#options.logger.warn({ problem }, "the certificate's files cannot be used: the one before stays in use");
    }
  }
}

function isSame(a: KeyPair, b: KeyPair): boolean {
  return a.cert.equals(b.cert) && a.key.equals(b.key);
}
