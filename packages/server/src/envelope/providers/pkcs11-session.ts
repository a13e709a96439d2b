/** A session with a hardware token, logged in; spec/envelope.md § Hardware tokens. */

import { CK, nameOf, returnValueOf, type Cryptoki, type Handle, type Pkcs11js } from "./pkcs11-cryptoki.ts";

/** Which token, and how to log in to it. */
export interface TokenOptions {
  /** Label of the token. */
  token: string;
  serial: string | null;
  /** Label of the master keys on it. */
  object: string;
  pin: string;
}

/**
 * `refused`: the token works, and this does not. `pin`: it did not let us in, and must not be asked again.
 * `lost`: nothing is known of its state.
 */
export type TokenFault = "refused" | "pin" | "lost";

/** The message says what to do, and holds no PIN. */
export class TokenFailure extends Error {
  override name = "TokenFailure";
  readonly fault: TokenFault;
  constructor(fault: TokenFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

/** What calls on a token need. */
export interface TokenSession {
  cryptoki: Cryptoki;
  slot: Handle;
  session: Handle;
  /** The type of the parameters of AES-GCM, which is of pkcs11js's making. */
  gcmParameters: number;
}

const PIN_REFUSED: ReadonlySet<number | undefined> = new Set([
  CK.CKR_PIN_INCORRECT,
  CK.CKR_PIN_INVALID,
  CK.CKR_PIN_LEN_RANGE,
  CK.CKR_PIN_EXPIRED,
  CK.CKR_PIN_LOCKED,
  CK.CKR_USER_PIN_NOT_INITIALIZED,
]);

/** Finds the token by its name and logs in. `cryptoki` has its module loaded. */
export function openSession(pkcs11js: Pkcs11js, cryptoki: Cryptoki, options: TokenOptions): TokenSession {
  try {
    cryptoki.C_Initialize();
  } catch (error) {
    if (returnValueOf(error) !== CK.CKR_CRYPTOKI_ALREADY_INITIALIZED) throw error;
  }
  const slot = findSlot(cryptoki, options);
  if (!cryptoki.C_GetMechanismList(slot).includes(CK.CKM_AES_GCM)) {
    throw new TokenFailure("lost", `The token ${options.token} does not offer CKM_AES_GCM: choose one that does.`);
  }
  const session = cryptoki.C_OpenSession(slot, CK.CKF_RW_SESSION | CK.CKF_SERIAL_SESSION);
  login(cryptoki, slot, session, options);
  return { cryptoki, slot, session, gcmParameters: pkcs11js.CK_PARAMS_AES_GCM_v240 };
}

/**
 * A token that went away, or a session that lost its login, may show no objects rather than an error: this tells it from a token
 * that has none.
 */
export function assertPresent({ cryptoki, slot, session }: TokenSession, { token }: TokenOptions): void {
  const label = trimmed(cryptoki.C_GetTokenInfo(slot).label);
  const isLoggedIn = cryptoki.C_GetSessionInfo(session).state === CK.CKS_RW_USER_FUNCTIONS;
  if (label !== token || !isLoggedIn) throw new TokenFailure("lost", `The session with the token ${token} ended.`);
}

function findSlot(cryptoki: Cryptoki, { token, serial }: TokenOptions): Handle {
  const slots = cryptoki.C_GetSlotList(true).filter((slot) => {
    const info = cryptoki.C_GetTokenInfo(slot);
    return trimmed(info.label) === token && (serial === null || trimmed(info.serialNumber) === serial);
  });
  const [slot] = slots;
  if (slot === undefined) {
    throw new TokenFailure(
      "lost",
      `The module shows no token ${token}${serial === null ? "" : ` with the serial number ${serial}`}: ` +
        "see that it is plugged in or reachable, initialised, and configured for this user.",
    );
  }
  if (slots.length > 1) {
    throw new TokenFailure("lost", `Several tokens are called ${token}: add serial=… to the URI of the key provider.`);
  }
  return slot;
}

function login(cryptoki: Cryptoki, slot: Handle, session: Handle, { token, pin }: TokenOptions): void {
  const { flags } = cryptoki.C_GetTokenInfo(slot);
  // A token locks after a few wrong PINs, and its keys may be lost then: the last try is for a person to take.
  if ((flags & (CK.CKF_USER_PIN_FINAL_TRY | CK.CKF_USER_PIN_LOCKED)) !== 0) {
    const state = (flags & CK.CKF_USER_PIN_LOCKED) === 0 ? "has one try left" : "is locked";
    throw new TokenFailure(
      "pin",
      `The PIN of the token ${token} ${state}: log in once, or unlock it, with the tools of its maker, and restart the server.`,
    );
  }
  try {
    cryptoki.C_Login(session, CK.CKU_USER, pin);
  } catch (error) {
    const code = returnValueOf(error);
    if (code === CK.CKR_USER_ALREADY_LOGGED_IN) return;
    if (!PIN_REFUSED.has(code)) throw error;
    throw new TokenFailure(
      "pin",
      `The token ${token} refuses the PIN (${nameOf(error)}). It is not tried again, because tokens lock after a few tries: ` +
        "correct the PIN, and restart the server unless it is in a file.",
    );
  }
}

/** Tokens pad their texts with blanks. */
function trimmed(text: string): string {
  return text.replace(/[ \0]+$/, "");
}
