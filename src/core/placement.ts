/**
 * Owns which shards a worker should claim, give up or drop, from its picture of the list: pure, so that every worker
 * that sees the same picture comes to the same shares.
 *
 * Invariants:
 * - Shares differ by one shard at most, and add up to all shards that nobody keeps reserved.
 * - Who holds more keeps the odd shards, so that nothing moves without need.
 * - A shard is free when nobody owns it, when its owner is dead, or when its owner lives a new life. The shards of a
 *   member that is offline for a while are kept for it.
 *
 * Another worker may see another picture for a moment: two may then want the same shard, and the compare-and-set on
 * its entry lets one have it. Called by the claims (cluster/claims.ts).
 */
import { type MemberStatus, takesShards } from "./members.js";

export interface PlacedWorker {
  id: string;
  incarnation: string;
  /** The incarnation that is taking its place; "" when there is none. */
  successor: string;
  status: MemberStatus;
  live: boolean;
  /** Offline for a while, and the while is not over. */
  reserved: boolean;
}

export interface PlacedShard {
  owner: string;
  incarnation: string;
  /** Of the entry; 0 while it is only remembered from a list-server that is gone. */
  revision: number;
  /** Changed recently: its owner may not be in our picture yet. */
  recent: boolean;
}

export interface PlacementView {
  self: { id: string; incarnation: string };
  shardCount: number;
  shards: ReadonlyMap<number, PlacedShard>;
  workers: ReadonlyMap<string, PlacedWorker>;
  /** What this worker holds, with the revision of its claim: an older entry in the picture is only late. */
  held: ReadonlyMap<number, number>;
}

export interface Placement {
  /** Free shards to claim, in the order to try them. */
  claim: number[];
  /** Of the held ones, how many to give up. */
  surplus: number;
  /** Held ones that are another's already. */
  lost: number[];
}

type Standing = "ours" | "free" | "taken" | "reserved";

export function place(view: PlacementView): Placement {
  const { self, shardCount, held } = view;
  const lost = [...held.keys()].filter((shard) => isAnothers(view, shard));
  const standing = Array.from({ length: shardCount }, (_, shard) => standingOf(view, shard));
  const shares = sharesOf(view, standing);
  const share = shares.get(self.id);
  if (share === undefined) return { claim: [], surplus: 0, lost };
  const mine = held.size - lost.length;
  const free = standing.flatMap((each, shard) => (each === "free" && !held.has(shard) ? [shard] : []));
  // Workers that claim at the same moment begin in different places, so that few lose a race.
  const rank = [...shares.keys()].sort().indexOf(self.id);
  const start = Math.floor((rank * free.length) / shares.size);
  const claim = [...free.slice(start), ...free.slice(0, start)].slice(0, Math.max(0, share - mine));
  return { claim, surplus: Math.max(0, mine - share), lost };
}

/** How many shards each worker should hold. */
function sharesOf(view: PlacementView, standing: readonly Standing[]): Map<string, number> {
  const holding = new Map<string, number>();
  for (const worker of view.workers.values()) {
    if (worker.live && takesShards(worker.status)) holding.set(worker.id, 0);
  }
  for (const [shard, each] of standing.entries()) {
    if (each !== "taken" && each !== "ours") continue;
    const owner = view.shards.get(shard)!.owner;
    if (holding.has(owner)) holding.set(owner, holding.get(owner)! + 1);
  }
  const total = standing.filter((each) => each !== "reserved").length;
  const base = Math.floor(total / holding.size);
  const odd = total % holding.size;
  const byHolding = [...holding].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  return new Map(byHolding.map(([id], index) => [id, base + (index < odd ? 1 : 0)]));
}

function standingOf(view: PlacementView, shard: number): Standing {
  const { self, workers } = view;
  const entry = view.shards.get(shard);
  if (entry === undefined || entry.owner === "") return "free";
  if (entry.incarnation === self.incarnation) return "ours";
  if (entry.owner === self.id) return "free";
  const owner = workers.get(entry.owner);
  if (owner === undefined) return entry.recent ? "taken" : "free";
  if (owner.reserved) return "reserved";
  if (!owner.live) return "free";
  const isItself = owner.incarnation === entry.incarnation || owner.successor === entry.incarnation;
  return isItself || entry.recent ? "taken" : "free";
}

function isAnothers(view: PlacementView, shard: number): boolean {
  const entry = view.shards.get(shard);
  if (entry === undefined || entry.incarnation === view.self.incarnation) return false;
  return entry.revision > view.held.get(shard)!;
}
