/**
 * One process of two between which a session moves: it has one shard, does what it is told over IPC, and remembers
 * when it took what, by the machine's monotonic clock (the same in every process).
 */
import { type SessionInfo, Shard } from "../../src/discord/shard.js";
import { quietShard } from "./probe.js";

export type Order =
  | { do: "connect" }
  | { do: "prepare"; url: string }
  /** `close` is the way that waits for the gateway's close frame. */
  | { do: "leave"; by: "leave" | "close" }
  | { do: "resume"; session: SessionInfo }
  | { do: "report" };

export type Answer =
  | { did: "connect"; session: SessionInfo }
  | { did: "prepare" }
  | { did: "leave"; session: SessionInfo; calledAt: number; doneAt: number }
  | { did: "resume"; calledAt: number; resumedAt: number }
  | { did: "report"; taken: [s: number, at: number][] };

const [gatewayUrl, token] = process.argv.slice(2) as [string, string];
const taken: [number, number][] = [];
let resumed: ((at: number) => void) | undefined;
let shard = makeShard();

function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function makeShard(): Shard {
  return new Shard({
    ...quietShard,
    token,
    rest: { gatewayUrl: async () => gatewayUrl },
    identify: "refused",
    onDispatch: ({ s }) => {
      taken.push([s, nowMs()]);
      return true;
    },
    onSession: () => resumed?.(nowMs()),
    onFatal: (error) => {
      throw error;
    },
  });
}

async function obey(order: Order): Promise<Answer> {
  switch (order.do) {
    case "connect":
      shard.allowIdentify();
      await new Promise((resolve) => {
        resumed = resolve;
        shard.connect();
      });
      return { did: "connect", session: shard.session! };
    case "prepare":
      if (shard.state === "closed") shard = makeShard();
      await shard.prepare(order.url);
      return { did: "prepare" };
    case "leave": {
      const calledAt = nowMs();
      const leaving = order.by === "leave" ? shard.leave() : shard.close({ resumable: true });
      const session = await leaving;
      return { did: "leave", session: session!, calledAt, doneAt: nowMs() };
    }
    case "resume": {
      const calledAt = nowMs();
      const resumedAt = await new Promise<number>((resolve) => {
        resumed = resolve;
        shard.resumeAs(order.session);
      });
      return { did: "resume", calledAt, resumedAt };
    }
    case "report":
      return { did: "report", taken };
  }
}

process.on("message", async (order: Order) => process.send?.(await obey(order)));
