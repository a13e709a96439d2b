/** Opens key providers by what names them on the command line; spec/envelope.md § Key providers. */

import { InvalidOptionError, StartupError } from "../startup-error.js";
import type { KeyProvider } from "./key-provider.js";
import { openKeyring } from "./providers/local-keyring.js";

export interface OpenOptions {
  /** Where credentials come from: PINs and tokens are never part of a URI. */
  environment: NodeJS.ProcessEnv;
  /** Makes a local keyring that is not there. */
  create: boolean;
}

/**
 * Opens the provider that `uri` names. Only a local keyring is read now: the others are asked when they are first used, so that
 * a server starts while they are away.
 *
 * @throws {InvalidOptionError} when it names none.
 * @throws {StartupError} when a package or a credential is missing; it says which.
 * @throws {KeyringError} when a local keyring cannot be used.
 */
export async function openKeyProvider(uri: string, options: OpenOptions): Promise<KeyProvider> {
  const kind = uri.slice(0, uri.indexOf(":"));
  switch (kind) {
    case "local":
      return await openKeyring(uri.slice("local:".length), options);
    case "transit": {
      const { openTransit } = await import("./providers/transit.js");
      return openTransit(uri, options.environment);
    }
    case "aws-kms": {
      const sdk = await importOptional("@aws-sdk/client-kms", () => import("@aws-sdk/client-kms"));
      return (await import("./providers/aws-kms.js")).openAwsKms(uri, sdk);
    }
    case "pkcs11": {
      const { openPkcs11 } = await import("./providers/pkcs11.js");
      return await importOptional("pkcs11js@2.1.7", () => openPkcs11(uri, options));
    }
    default:
      throw new InvalidOptionError(
        "A key provider is named by a URI that begins with local:, pkcs11:, aws-kms: or transit:. See docs/key-providers.md.",
      );
  }
}

/**
 * Imports an optional package.
 * @throws {StartupError} that names it, when it is not installed.
 */
async function importOptional<Module>(name: string, load: () => Promise<Module>): Promise<Module> {
  try {
    return await load();
  } catch (error) {
    if (error instanceof StartupError) throw error;
    throw new StartupError(
      `This key provider needs the package ${name}, which is not installed or does not load here: npm install ${name}`,
      { cause: error },
    );
  }
}
