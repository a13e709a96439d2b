/** What callers and administrators do, each with what the model says of it. */

import { isDeepStrictEqual } from "node:util";

import { TacendaError, type Entry } from "@tacenda/sdk";
import fc from "fast-check";

import { refused, result, type Outcome, type StoreModel } from "./model.ts";
import type { ModelWorld } from "./world.ts";

interface Real {
  world: ModelWorld;
  /** Keys of a sequence are its own. */
  nameOf: (key: number) => string;
}

type Command = fc.AsyncCommand<StoreModel, Real>;

interface Step<Args> {
  args: fc.Arbitrary<Args>;
  /** Left out where the model cannot say what will come of it. */
  canRun?: (model: StoreModel, args: Args, nameOf: Real["nameOf"]) => boolean;
  /** Changes the model. */
  expect: (model: StoreModel, args: Args, nameOf: Real["nameOf"]) => Outcome | readonly Outcome[];
  act: (real: Real, args: Args) => Promise<unknown>;
  /** Whether a result is one of those expected, where it need not be the same. */
  matches?: (result: unknown, expected: unknown) => boolean;
}

function step<Args>(name: string, { args, canRun, expect, act, matches = isDeepStrictEqual }: Step<Args>) {
  return args.map((given): Command => ({
    check: () => true,
    async run(model, real) {
      if (canRun?.(model, given, real.nameOf) === false) return;
      const expected = [expect(model, given, real.nameOf)].flat();
      const actual = await outcomeOf(act(real, given));
      const isExpected = expected.some((one) =>
        "result" in one && "result" in actual ? matches(actual.result, one.result) : isDeepStrictEqual(actual, one),
      );
      if (!isExpected) throw new Error(`${name}: ${fc.stringify(actual)} instead of ${fc.stringify(expected)}`);
    },
    toString: () => `${name}(${fc.stringify(given)})`,
  }));
}

/** What is none of the SDK's own errors is thrown on: no call may end so. */
async function outcomeOf(call: Promise<unknown>): Promise<Outcome> {
  try {
    return result(await call);
  } catch (error) {
    if (TacendaError.is(error)) return refused(error.code);
    throw error;
  }
}

const KEYS = [0, 1, 2];
const key = fc.constantFrom(...KEYS);
const client = fc.nat(1);
const version = fc.integer({ min: 1, max: 8 });
const value = fc.nat(1e6).map((number) => `value ${number}`);
/** Milliseconds; 0 for never. */
const expiresIn = fc.constantFrom(0, 0, 0, 60_000, 3_600_000);
const ifVersion = fc.option(fc.nat(6), { freq: 3, nil: undefined });

const expiry = (milliseconds: number) => (milliseconds === 0 ? {} : { expiresIn: milliseconds });

const set = step("set", {
  args: fc.record({ key, client, value, expiresIn, ifVersion }),
  expect: (model, args, nameOf) => model.set(nameOf(args.key), args.value, args.expiresIn, args.ifVersion),
  act: ({ world, nameOf }, args) => {
    const options = { ...expiry(args.expiresIn), ifVersion: args.ifVersion };
    return world.store(args.client).setValue(nameOf(args.key), args.value, options);
  },
});

const create = step("create", {
  args: fc.record({ key, client, value, expiresIn }),
  // A client that has seen the key reads it first and is refused; another one is told the head.
  canRun: (model, args, nameOf) => !model.isInactive(nameOf(args.key)),
  expect: (model, args, nameOf) => model.create(nameOf(args.key), args.value, args.expiresIn),
  act: ({ world, nameOf }, args) =>
    world.store(args.client).createValue(nameOf(args.key), args.value, expiry(args.expiresIn)),
});

const setMany = step("setMany", {
  args: fc.record({ keys: fc.uniqueArray(key, { minLength: 1 }), client, value }),
  expect: (model, args, nameOf) => model.setMany(manyOf(args.keys, args.value, nameOf)),
  act: ({ world, nameOf }, args) => world.store(args.client).setValues(manyOf(args.keys, args.value, nameOf)),
});

function manyOf(keys: readonly number[], text: string, nameOf: Real["nameOf"]): Record<string, string> {
  return Object.fromEntries(keys.map((one) => [nameOf(one), `${text} of ${one}`]));
}

const get = step("get", {
  args: fc.record({ key, client }),
  expect: (model, args, nameOf) => model.value(nameOf(args.key)),
  act: ({ world, nameOf }, args) => world.store(args.client).getValue(nameOf(args.key)),
});

const getEntry = step("getEntry", {
  args: fc.record({ key, client }),
  expect: (model, args, nameOf) => model.entry(nameOf(args.key)),
  act: async ({ world, nameOf }, args) => partsOf(await world.store(args.client).getEntry(nameOf(args.key))),
});

function partsOf(entry: Entry | null) {
  if (entry === null) return null;
  const { state, version: number, value: held } = entry;
  return { state, version: number, value: held, protected: state === "live" ? entry.claimed.protected : null };
}

const getMany = step("getMany", {
  args: fc.record({ client }),
  expect: (model, _, nameOf) => result(KEYS.map((one) => model.value(nameOf(one)))),
  act: async ({ world, nameOf }, args) => {
    const found = await world.store(args.client).getValues(KEYS.map(nameOf), { onError: "collect" });
    return [...found.values()].map((one) => (TacendaError.is(one) ? refused(one.code) : result(one)));
  },
});

const getVersion = step("getVersion", {
  args: fc.record({ key, client, version }),
  expect: (model, args, nameOf) => model.valueOf(nameOf(args.key), args.version),
  act: ({ world, nameOf }, args) => world.store(args.client).getValue(nameOf(args.key), { version: args.version }),
});

const list = step("list", {
  args: fc.record({ key, client }),
  expect: (model, args, nameOf) => model.list(nameOf(args.key)),
  act: async ({ world, nameOf }, args) =>
    (await world.store(args.client).listVersions(nameOf(args.key))).map((one) => one.version),
  matches(listed, expected) {
    const versions = listed as number[];
    const all = expected as number[];
    const isThere = all.every((one) => one < 0 || versions.includes(one));
    return isThere && versions.every((one) => all.includes(one) || all.includes(-one));
  },
});

const restore = step("restore", {
  args: fc.record({ key, client, version }),
  canRun: (model, args, nameOf) => !model.mayBeDropped(nameOf(args.key), args.version),
  expect: (model, args, nameOf) => model.restore(nameOf(args.key), args.version),
  act: ({ world, nameOf }, args) => world.store(args.client).restoreVersion(nameOf(args.key), args.version),
});

const remove = step("remove", {
  args: fc.record({ key, client, destroy: fc.boolean() }),
  expect: (model, args, nameOf) => model.remove(nameOf(args.key), args.destroy),
  act: ({ world, nameOf }, args) => {
    const store = world.store(args.client);
    return args.destroy ? store.destroyValue(nameOf(args.key)) : store.deleteValue(nameOf(args.key));
  },
});

const setAttribute = step("setAttribute", {
  args: fc.record({
    key,
    client,
    name: fc.constantFrom("protected" as const, "protected" as const, "active" as const),
    value: fc.constantFrom(true, true, false),
  }),
  expect: (model, args, nameOf) => model.setAttribute(nameOf(args.key), args.name, args.value),
  act: ({ world, nameOf }, args) => {
    const store = world.store(args.client);
    const name = nameOf(args.key);
    return args.name === "protected" ? store.setProtected(name, args.value) : store.setActive(name, args.value);
  },
});

const forgetMark = step("forgetMark", {
  args: fc.record({ key, client }),
  expect: () => result(undefined),
  act: ({ world, nameOf }, args) => world.store(args.client).forgetMark(nameOf(args.key)),
});

const passTime = step("passTime", {
  args: fc.constantFrom(1_000, 60_000, 3_600_000),
  expect: () => result(undefined),
  act({ world }, milliseconds) {
    world.passTime(milliseconds);
    return Promise.resolve();
  },
}).map((command): Command => ({
  check: () => true,
  async run(model, real) {
    await command.run(model, real);
    model.passTime();
  },
  toString: () => command.toString(),
}));

const restart = step("restart", {
  args: fc.constant(null),
  expect: () => result(undefined),
  act: ({ world }) => world.restart(),
});

const rotate = step("rotate", {
  args: fc.constantFrom("master key", "data key", "data key, and re-encrypt"),
  expect: () => result(undefined),
  act: async ({ world }, what) => {
    const { keys } = world.admin;
    if (what === "master key") await keys.rotate();
    else await keys.rotateData(world.storeId, { reencrypt: what !== "data key" });
  },
});

const remakeStore = step("remakeStore", {
  args: fc.constant(null),
  expect(model) {
    model.clear();
    return result(refused("store_not_found"));
  },
  act: async ({ world, nameOf }) => outcomeOf((await world.remakeStore()).getValue(nameOf(0))),
});

const often = (weight: number, ...all: fc.Arbitrary<Command>[]) =>
  all.flatMap((one) => Array.from({ length: weight }, () => one));

/** Sequences of up to 24 steps, most of them a caller's. */
export const sequences = fc.commands(
  [
    ...often(12, set),
    ...often(8, getEntry),
    ...often(6, get, remove, setAttribute),
    ...often(4, setMany, getMany, getVersion, restore, create, passTime),
    ...often(2, list, forgetMark),
    ...often(1, restart, rotate, remakeStore),
  ],
  { maxCommands: 24, size: "max" },
);
