/** @tacenda/protocol: what both sides must agree on. No cryptography, no I/O. */

export {
  DEFAULT_MAX_VERSIONS,
  HEAD_BYTES,
  MAX_JSON_BODY_BYTES,
  MAX_KEY_BYTES,
  MAX_MAX_VERSIONS,
  MAX_METADATA_BYTES,
  MAX_RECORD_BYTES,
  MAX_TIME,
  MAX_VALUE_BYTES,
  MAX_VERSION,
  MIN_RECORD_BYTES,
  PAYLOAD_OVERHEAD_BYTES,
  TAG_BYTES,
  paddedLength,
} from "./limits.js";
export { fromBase64url, toBase64url } from "./base64url.js";
export {
  DEFAULT_PROJECT,
  ID_PATTERN,
  KEY_HASH_BYTES,
  decodeKeyHash,
  encodeKeyHash,
  isId,
  parseVersion,
  parseVersionTag,
  recordPath,
  storePath,
  versionTag,
} from "./identifiers.js";
export { RECORD_FORMAT, RECORD_SUITE, RecordState, parseHead, type HeadFault, type RecordHead } from "./head.js";
export { ERROR_STATUS, isErrorCode, type CurrentVersion, type ErrorBody, type ErrorCode } from "./errors.js";
export {
  HEADERS,
  PERMISSIONS,
  RECORD_MEDIA_TYPE,
  type Grant,
  type MintedToken,
  type NewStore,
  type NewToken,
  type Permission,
  type Project,
  type RecordAttributes,
  type SecretPolicy,
  type Store,
  type StoreSettings,
  type TokenInfo,
  type VersionInfo,
  type WhoAmI,
} from "./messages.js";
export {
  BASE62,
  CHECKSUM_LENGTH,
  RANDOM_LENGTH,
  SECRET_PREFIX,
  TOKEN_ID_LENGTH,
  TOKEN_PREFIX,
  checksumText,
  hasSecretForm,
  randomBase62,
  splitChecksum,
  tokenId,
} from "./tokens.js";
