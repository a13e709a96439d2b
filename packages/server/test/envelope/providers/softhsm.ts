/** Tokens of SoftHSM, which is a PKCS#11 token in software, as tests use them; scripts/install-hsm.mjs installs it. */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  CK,
  type Attribute,
  type Cryptoki,
  type Handle,
  type Pkcs11js,
} from "../../../src/envelope/providers/pkcs11-cryptoki.js";
import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { openPkcs11, type Pkcs11KeyProvider } from "../../../src/envelope/providers/pkcs11.js";

export const PIN = "correct horse";
const SO_PIN = "security officer";

const MODULE = [
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib64/softhsm/libsofthsm.so",
  "/opt/homebrew/lib/softhsm/libsofthsm2.so",
].find((path) => existsSync(path));

const require = createRequire(import.meta.url);

function isThere(): boolean {
  try {
    require.resolve("pkcs11js");
  } catch {
    return false;
  }
  return MODULE !== undefined && spawnSync("softhsm2-util", ["--version"]).status === 0;
}

/** Whether this machine has what scripts/install-hsm.mjs installs. */
export const hasSoftHsm = isThere();

/** A folder of tokens, and SoftHSM configured for it in this process and those it starts. */
export class SoftHsm {
  readonly #folder: string;
  readonly modulePath = MODULE ?? "";

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async create(...tokens: string[]): Promise<SoftHsm> {
    const hsm = new SoftHsm(await mkdtemp(join(tmpdir(), "tacenda-hsm-")));
    await mkdir(hsm.tokens);
    const conf = join(hsm.#folder, "softhsm2.conf");
    await writeFile(conf, `directories.tokendir = ${hsm.tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`);
    process.env.SOFTHSM2_CONF = conf;
    for (const token of tokens) hsm.initToken(token);
    return hsm;
  }

  get tokens(): string {
    return join(this.#folder, "tokens");
  }

  /** A file of that name beside the tokens. */
  path(name: string): string {
    return join(this.#folder, name);
  }

  initToken(token: string): void {
    const pins = ["--pin", PIN, "--so-pin", SO_PIN];
    execFileSync("softhsm2-util", ["--init-token", "--free", "--label", token, ...pins]);
  }

  /** Another token of the same name, on which no session and no key of the earlier one is. */
  replaceToken(token: string): void {
    execFileSync("softhsm2-util", ["--delete-token", "--token", token]);
    this.initToken(token);
  }

  uri(token: string, object = "master", query = ""): string {
    return `pkcs11:token=${token};object=${object}?module-path=${this.modulePath}${query}`;
  }

  async open(token: string, object = "master") {
    return await openKeyProvider(this.uri(token, object), { environment: { TACENDA_PKCS11_PIN: PIN }, create: true });
  }

  async openWith(
    token: string,
    options: { object?: string; query?: string; pin?: string; limit?: number; pause?: number } = {},
  ): Promise<Pkcs11KeyProvider> {
    const { object, query, pin = PIN, ...limits } = options;
    return await openPkcs11(this.uri(token, object, query), { environment: { TACENDA_PKCS11_PIN: pin }, ...limits });
  }

  async takeAway(): Promise<void> {
    await rename(this.tokens, `${this.tokens}-away`);
  }

  async bringBack(): Promise<void> {
    await rename(`${this.tokens}-away`, this.tokens);
  }

  async remove(): Promise<void> {
    delete process.env.SOFTHSM2_CONF;
    await rm(this.#folder, { recursive: true });
  }

  /** Lets `work` use the token by itself, as an operator's own tools do. */
  byHand<Result>(token: string, work: (hand: Hand) => Result): Result {
    const pkcs11js = require("pkcs11js") as Pkcs11js;
    const cryptoki = new pkcs11js.PKCS11();
    cryptoki.load(this.modulePath);
    cryptoki.C_Initialize();
    try {
      const slot = cryptoki.C_GetSlotList(true).find((one) => cryptoki.C_GetTokenInfo(one).label.trim() === token);
      if (slot === undefined) throw new Error(`There is no token ${token}.`);
      const session = cryptoki.C_OpenSession(slot, CK.CKF_RW_SESSION | CK.CKF_SERIAL_SESSION);
      cryptoki.C_Login(session, CK.CKU_USER, PIN);
      return work(new Hand(cryptoki, session));
    } finally {
      cryptoki.C_Finalize();
    }
  }
}

/** A session of an operator. */
export class Hand {
  readonly cryptoki: Cryptoki;
  readonly session: Handle;

  constructor(cryptoki: Cryptoki, session: Handle) {
    this.cryptoki = cryptoki;
    this.session = session;
  }

  objects(label = "master"): Handle[] {
    this.cryptoki.C_FindObjectsInit(this.session, [{ type: CK.CKA_LABEL, value: label }]);
    const handles = this.cryptoki.C_FindObjects(this.session, 100);
    this.cryptoki.C_FindObjectsFinal(this.session);
    return handles;
  }

  read(object: Handle, type: number): Buffer | undefined {
    return this.cryptoki.C_GetAttributeValue(this.session, object, [{ type }])[0]?.value;
  }

  /** Makes a key that is a master key, but for what is given. */
  generate(
    attributes: Attribute[],
    { label = "master", mechanism = CK.CKM_AES_KEY_GEN }: { label?: string; mechanism?: number } = {},
  ): Handle {
    const usual: Attribute[] = [
      { type: CK.CKA_LABEL, value: label },
      { type: CK.CKA_ID, value: Buffer.from([0, 0, 0, 1]) },
      { type: CK.CKA_VALUE_LEN, value: 32 },
      { type: CK.CKA_TOKEN, value: true },
      { type: CK.CKA_PRIVATE, value: true },
      { type: CK.CKA_SENSITIVE, value: true },
      { type: CK.CKA_EXTRACTABLE, value: false },
      { type: CK.CKA_ENCRYPT, value: true },
      { type: CK.CKA_DECRYPT, value: true },
    ];
    const given = new Set(attributes.map(({ type }) => type));
    const template = [...usual.filter(({ type }) => !given.has(type)), ...attributes];
    return this.cryptoki.C_GenerateKey(this.session, { mechanism, parameter: null }, template);
  }
}
