/** The end of a run: everything works again, and must become as the map says; every key takes writes. */
import { utf8 } from "#shared/bytes.ts";
import { DEFAULT_TENANT } from "#shared/ids.ts";
import { readOutcome } from "./clients.ts";
import { violated } from "./violation.ts";
import type { World } from "./world.ts";

/** Without faults, in which every key must take a write; longer than any time limit of the product. */
const WRITABLE_MS = 30_000;
/** In which all moves must have ended, however many replicas have to be built again. */
const SETTLED_MS = 240_000;
/** How long it must stay settled. */
const CALM_MS = 3_000;

export async function heal(world: World): Promise<void> {
  world.faults.end();
  world.operators.end();
  world.directories.healed();
  world.watchers.healed();
  world.tell("healed");
  if (world.checker.newestMap === undefined) await world.founded();
  await everyKeyIsWritable(world);
  for (const client of world.clients) client.stop();
  await world.until("the directory takes changes", WRITABLE_MS, () =>
    world.directories.haveAllChanged(),
  );
  world.directories.end();
  await world.until("clients are answered", WRITABLE_MS, () =>
    [...world.clients, world.directories].every(({ busy }) => !busy),
  );
  await settle(world);
  for (const key of world.keys) await readAtEnd(world, key);
  await world.until("gateways have one directory", WRITABLE_MS, () => world.directories.areEqual());
  await world.until(
    "followers have all changes",
    WRITABLE_MS,
    () => world.watchers.whyBehind() === "",
    () => world.watchers.whyBehind(),
  );
  await world.compareHashes();
}

/** Through every gateway. */
async function everyKeyIsWritable(world: World): Promise<void> {
  for (const [i, gateway] of world.gateways.entries()) {
    const client = world.makeClient(world.clients.length + i);
    for (const key of world.keys) {
      let done = false;
      const deadlineMs = gateway.party.clock.nowMs() + WRITABLE_MS;
      client.put(key, undefined, deadlineMs).then(() => {
        done = true;
      }, world.onError);
      await world.until(`"${key}" is written`, WRITABLE_MS + 5_000, () => done);
      if (!client.stored) {
        violated("liveness", `"${key}" takes no write, through gateway ${i + 1}`);
      }
    }
  }
}

async function settle(world: World): Promise<void> {
  let calmSinceMs = Number.POSITIVE_INFINITY;
  let version = -1;
  const isSettled = (): boolean => {
    const map = world.checker.newestMap!;
    world.operators.tidy(map);
    if (map.version !== version || world.whyUnsettled() !== "") {
      calmSinceMs = Number.POSITIVE_INFINITY;
      version = map.version;
    } else calmSinceMs = Math.min(calmSinceMs, world.agenda.nowMs);
    return world.agenda.nowMs - calmSinceMs >= CALM_MS;
  };
  await world.until("the cluster settles", SETTLED_MS, isSettled, () => world.whyUnsettled());
  world.tell("settled");
}

async function readAtEnd(world: World, key: string): Promise<void> {
  const { storage, party } = world.gateways[0]!;
  const asked = world.history.begin(key, world.agenda.nowMs);
  let done = false;
  storage
    .get(
      { tenant: DEFAULT_TENANT, key: utf8(key) },
      { deadlineMs: party.clock.nowMs() + WRITABLE_MS },
    )
    .then((found) => {
      const value = found && new TextDecoder().decode(found.value);
      world.history.answer(asked, { kind: "get" }, readOutcome(found?.revision ?? 0, value));
      done = true;
    }, world.onError);
  await world.until(`"${key}" is read`, WRITABLE_MS + 5_000, () => done);
}
