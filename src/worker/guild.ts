/**
 * Owns one guild in memory: its state, its place in the log, the order of its dispatches and of its appends.
 *
 * Modes:
 * - loading: the document is on its way; dispatches wait.
 * - ready: dispatches run at once, in order.
 * - running: an asynchronous handler runs; dispatches wait until it has ended.
 * - stuck: the document cannot be had just now; dispatches wait for the next try.
 * - refused: newer code owns the document, or it cannot be had after many tries; dispatches are dropped visibly, so
 *   that one guild does not hold up its shard; it is tried again now and then.
 * - dropped: out of memory; nothing may touch it any more.
 *
 * Invariants:
 * - One writer, one append in flight; what mutates meanwhile coalesces into the next event (design: "guild log", 4).
 * - The state in memory is the log's plus the batches in flight and pending, in that order.
 * - Effects leave after the append of their batch is acknowledged, never before (I5).
 * - A dispatch at or below the cursor of its session was applied before and is not run again (I1).
 *
 * If the process dies: what is in the log is kept, everything else is replayed from the checkpoint, which never passes
 * a dispatch that has not completed here. Called by the guilds' table (guilds.ts).
 */
import type { DispatchName } from "../core/bot.js";
import type { GuildDocument } from "../core/document.js";
import { type Drafted, runDraft } from "../core/draft.js";
import { assert, GuildstreamError, messageOf } from "../core/errors.js";
import { type Cursor, type Effect, encodeEvent, wireVersion } from "../core/event.js";
import { limits } from "../core/limits.js";
import { guildSubject } from "../core/subjects.js";
import { objectIdOf } from "../discord/dispatch.js";
import type { AppendOutcome } from "../nats/guild-log.js";
import { Batch } from "./batch.js";
import type { GuildServices } from "./services.js";
import { openState } from "./state.js";
import type { Work } from "./work.js";

/** What leaves with a guild that another worker takes over. */
export interface Departure {
  /** Undefined: the log has all there is. */
  document: GuildDocument | undefined;
  waiting: Work[];
}

type Mode = "loading" | "ready" | "running" | "stuck" | "refused" | "dropped";

const legal: Record<Mode, readonly Mode[]> = {
  loading: ["ready", "stuck", "refused", "dropped"],
  ready: ["running", "loading", "dropped"],
  running: ["ready", "loading", "dropped"],
  stuck: ["loading", "dropped"],
  refused: ["loading", "dropped"],
  dropped: [],
};

export class Guild {
  readonly id: string;
  readonly subject: string;
  /** Kept, since it costs a BigInt to make. */
  readonly shard: number;
  lastUsedAt = 0;

  readonly #services: GuildServices;
  #mode: Mode = "loading";
  #state: object = {};
  /** At most this much JSON; made exact whenever it comes near the server's limit, or has doubled by guesses. */
  #stateBytes = 0;
  #exactBytes = 0;
  /** The state as a whole must go into the next event: the log has none yet, or an older version's. */
  #wholeState = true;
  #rev = 0;
  #epoch = 0;
  #seq = 0;
  #by = "";
  #cursor: Cursor | null = null;
  /** The stream lost what we had stored: the next append is a snapshot of everything. */
  #asSnapshot = false;
  #inFlight: Batch | undefined;
  #pending: Batch | undefined;
  #waiting: Work[] = [];
  /** The dispatch of the asynchronous handler that runs. */
  #current: Work | undefined;
  /** Rises with every load, so that what an earlier life left behind is recognised and ignored. */
  #life = 0;
  #resent = false;
  #loadFailures = 0;
  /** It is to leave for another worker: nothing new runs, what is underway ends first. */
  #departing: ((departure: Departure) => void) | undefined;

  constructor(id: string, services: GuildServices) {
    this.id = id;
    this.subject = guildSubject(id);
    this.shard = services.shardOf(id);
    this.#services = services;
  }

  get mode(): Mode {
    return this.#mode;
  }

  get seq(): number {
    return this.#seq;
  }

  get stateBytes(): number {
    return this.#stateBytes;
  }

  /** Nothing waits, runs or flies: it may leave memory once it is clean. */
  get isQuiet(): boolean {
    return (
      this.#departing === undefined &&
      this.#inFlight === undefined &&
      this.#pending === undefined &&
      this.#waiting.length === 0 &&
      (this.#mode === "ready" || this.#mode === "stuck" || this.#mode === "refused")
    );
  }

  /** Takes a dispatch of this guild; runs it now or in its turn. */
  handle(work: Work): void {
    assert(this.#mode !== "dropped", "a dropped guild was given a dispatch");
    this.lastUsedAt = this.#services.now();
    if (this.#mode === "refused") this.#refuse(work);
    else if (this.#mayRun && this.#waiting.length === 0) this.#run(work);
    else this.#waiting.push(work);
  }

  /** A full batch stops the guild until the one before it is in the log: order and bounds before speed. */
  get #mayRun(): boolean {
    return this.#mode === "ready" && this.#departing === undefined && this.#pending?.isFull !== true;
  }

  /** Takes a document that another worker had in memory, instead of loading it. */
  adopt(document: GuildDocument): void {
    assert(this.#mode === "loading" && this.#life === 0, "only a new guild adopts a document");
    this.lastUsedAt = this.#services.now();
    this.#loaded(document);
  }

  /**
   * Leaves for another worker. From here on nothing new runs; once what is underway is in the log, `done` is called with
   * the document and what waits, and whoever called drops the guild.
   */
  depart(done: (departure: Departure) => void): void {
    assert(this.#departing === undefined, "a guild departs once");
    this.#departing = done;
    this.#departWhenQuiet();
  }

  /** Fetches the document, then runs what waits; tries again for as long as it cannot be had. */
  load(): void {
    const life = ++this.#life;
    this.#services.load(this.id, this.subject).then(
      (document) => life === this.#life && this.#loaded(document),
      (error: unknown) => life === this.#life && this.#loadFailed(error),
    );
  }

  drop(): void {
    this.#setMode("dropped");
    this.#life += 1;
  }

  /** The stream rewound below what we hold: put the guild back by a snapshot, now rather than at its next event. */
  repair(): void {
    if ((this.#mode !== "ready" && this.#mode !== "running") || this.#inFlight !== undefined) return;
    this.#asSnapshot = true;
    this.#pending ??= new Batch();
    this.#flush();
  }

  #resize(bytes: number): void {
    const before = this.#stateBytes;
    this.#stateBytes = bytes;
    if (bytes !== before) this.#services.resized(bytes - before);
  }

  #departWhenQuiet(): void {
    const done = this.#departing;
    if (done === undefined || this.#mode === "running") return;
    if (this.#inFlight !== undefined || this.#pending !== undefined) return;
    // A state that no event has yet (new, or just migrated) is made again from the log by whoever comes next.
    const isInLog = this.#mode === "ready" && !this.#wholeState;
    const waiting = this.#waiting;
    this.#waiting = [];
    const place = { rev: this.#rev, epoch: this.#epoch, seq: this.#seq, by: this.#by, cursor: this.#cursor };
    done({ document: isInLog ? { state: this.#state, ...place } : undefined, waiting });
  }

  #setMode(mode: Mode): void {
    assert(legal[this.#mode].includes(mode), `guild ${this.id}: ${this.#mode} -> ${mode}`);
    this.#mode = mode;
  }

  #loaded(document: GuildDocument): void {
    let opened: ReturnType<typeof openState>;
    try {
      opened = openState(this.#services.bot, this.id, document.state);
    } catch (error) {
      this.#loadFailed(error);
      return;
    }
    this.#state = opened.state;
    this.#wholeState = opened.changed;
    this.#exactBytes = opened.bytes;
    this.#resize(opened.bytes);
    this.#rev = document.rev;
    this.#epoch = document.epoch;
    this.#seq = document.seq;
    this.#by = document.by;
    this.#cursor = document.cursor;
    this.#asSnapshot = false;
    this.#resent = false;
    this.#loadFailures = 0;
    this.#setMode("ready");
    this.#runWaiting();
  }

  #loadFailed(error: unknown): void {
    const { log, later } = this.#services;
    this.#loadFailures += 1;
    const code = error instanceof GuildstreamError ? error.code : undefined;
    const lasting = code === "GUILD_UNAVAILABLE" && this.#loadFailures >= limits.guildLoadAttemptsMax;
    const fields = { event: "guild_load_failed", guildId: this.id, code, error: messageOf(error) };
    if (code === "STATE_VERSION" || lasting) {
      this.#setMode("refused");
      log.error(
        { ...fields, dropped: this.#waiting.length },
        "the guild is refused; its dispatches are dropped",
      );
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const work of waiting) this.#refuse(work);
    } else {
      this.#setMode("stuck");
      log.error(
        { ...fields, waiting: this.#waiting.length },
        "the guild cannot be loaded; its dispatches wait",
      );
    }
    const life = this.#life;
    later(() => {
      if (life !== this.#life) return;
      this.#setMode("loading");
      this.load();
    });
  }

  #refuse(work: Work): void {
    this.#services.counters.handlerErrors += 1;
    work.complete();
  }

  /**
   * Another writer was faster, or the log is not what we thought: load again and run everything that is not in it.
   * What is in it already is recognised by its cursor.
   */
  #reload(batches: (Batch | undefined)[]): void {
    const works = batches.flatMap((batch) => batch?.works ?? []);
    if (this.#current !== undefined) works.push(this.#current);
    this.#current = undefined;
    this.#waiting = [...works, ...this.#waiting];
    this.#inFlight = undefined;
    this.#pending = undefined;
    // What waits for its load must not fill the memory that the load waits for.
    this.#state = {};
    this.#resize(0);
    this.#setMode("loading");
    if (this.#departing === undefined) this.load();
    else this.#departWhenQuiet();
  }

  #runWaiting(): void {
    let index = 0;
    while (index < this.#waiting.length && this.#mayRun) {
      const work = this.#waiting[index]!;
      index += 1;
      this.#run(work);
    }
    this.#waiting = index === this.#waiting.length ? [] : this.#waiting.slice(index);
  }

  #run(work: Work): void {
    if (this.#cursor !== null && work.session === this.#cursor.session && work.s <= this.#cursor.s) {
      this.#skip(work);
      return;
    }
    const effects: Effect[] = [];
    let result: Drafted<object> | Promise<Drafted<object>>;
    try {
      result = runDraft(this.#state, (draft) => this.#services.handlers.run(work, draft, effects));
    } catch (error) {
      this.#reject(work, error);
      return;
    }
    if (result instanceof Promise) this.#runAsync(work, result, effects);
    else this.#settle(work, result, effects);
  }

  #runAsync(work: Work, result: Promise<Drafted<object>>, effects: Effect[]): void {
    const life = this.#life;
    this.#setMode("running");
    this.#current = work;
    const ended = (settle: () => void): void => {
      clearTimeout(timer);
      if (life !== this.#life || this.#current !== work) return;
      this.#current = undefined;
      this.#setMode("ready");
      settle();
      this.#runWaiting();
      this.#departWhenQuiet();
    };
    // A handler that never ends would hold up its guild, and through the checkpoint its shard.
    const timer = setTimeout(() => {
      ended(() =>
        this.#reject(work, new Error(`the handler did not end within ${limits.handlerTimeoutMs} ms`)),
      );
    }, limits.handlerTimeoutMs);
    result.then(
      (outcome) => ended(() => this.#settle(work, outcome, effects)),
      (error: unknown) => ended(() => this.#reject(work, error)),
    );
  }

  /** A replay after a crash: the state has it. Its effects may not have left, so the guild's latest are sent again. */
  #skip(work: Work): void {
    this.#services.counters.skipped += 1;
    if (this.#resent) {
      work.complete();
      return;
    }
    this.#resent = true;
    void this.#services.resend(this.subject, this.#seq, work).finally(() => work.complete());
  }

  #settle(work: Work, result: Drafted<object>, effects: Effect[]): void {
    this.#services.counters.handled += 1;
    if (result.ops.length === 0) {
      this.#withoutMutation(work, effects);
      return;
    }
    let opsJson = JSON.stringify(result.ops).slice(1, -1);
    const next = result.state as object;
    if (this.#wholeState) opsJson = `{"op":"add","path":"","value":${JSON.stringify(next)}}`;
    // A bound on the state's bytes: three per character of what was added; exact again when it comes near.
    let bytes = this.#stateBytes + opsJson.length * 3;
    const maxBytes = this.#services.stateMaxBytes();
    if (bytes > Math.min(maxBytes, this.#exactBytes * 2 + limits.stateGuessBytes)) {
      bytes = Buffer.byteLength(JSON.stringify(next));
      if (bytes <= maxBytes) this.#exactBytes = bytes;
    }
    if (bytes > maxBytes) {
      const hint = `keep less in the guild's state (${bytes} of at most ${maxBytes} bytes), or raise NATS' max_payload`;
      this.#reject(
        work,
        new GuildstreamError("GUILD_TOO_LARGE", `guild ${this.id} would become too large`, { hint }),
      );
      return;
    }
    this.#state = next;
    this.#wholeState = false;
    this.#cursor = { session: work.session, s: work.s };
    if (this.#pending !== undefined && this.#pending.opsJson.length + opsJson.length > maxBytes / 3) {
      // Together too long for one message; the whole state never is.
      this.#pending.opsJson = "";
      opsJson = `{"op":"add","path":"","value":${JSON.stringify(next)}}`;
    }
    this.#pending ??= new Batch();
    this.#pending.mutate(opsJson, {
      shard: work.shard,
      session: work.session,
      s: work.s,
      t: work.payload.t as DispatchName,
      id: objectIdOf(work.payload),
    });
    this.#pending.take(work, effects);
    // Only now: it may make quiet guilds leave, and with something pending this one is not quiet.
    this.#resize(bytes);
    this.#flush();
  }

  /** The handler threw, or left what cannot be kept: state as before, reported with the dispatch, the worker lives. */
  #reject(work: Work, error: unknown): void {
    this.#services.counters.handlerErrors += 1;
    this.#services.log.error(
      {
        event: "handler_failed",
        guildId: this.id,
        t: work.payload.t,
        id: objectIdOf(work.payload),
        shard: work.shard,
        s: work.s,
        error: messageOf(error),
        ...(error instanceof GuildstreamError
          ? { code: error.code, hint: error.hint }
          : { stack: (error as Error)?.stack }),
      },
      "a handler failed; the guild's state is as before",
    );
    const failure = this.#services.handlers.failureAnswer(work);
    this.#withoutMutation(work, failure === undefined ? [] : [failure]);
  }

  /** Its answer may tell of state that is not in the log yet, so it waits for the batch that is. */
  #withoutMutation(work: Work, effects: Effect[]): void {
    const before = this.#pending ?? this.#inFlight;
    if (before !== undefined) before.take(work, effects);
    else if (effects.length === 0) work.complete();
    else void this.#services.send(effects, work.payload.t).finally(() => work.complete());
  }

  #flush(): void {
    if (this.#inFlight !== undefined || this.#pending === undefined) return;
    if (!this.#services.mayAppend(this)) return;
    const batch = this.#pending;
    this.#pending = undefined;
    this.#inFlight = batch;
    const rev = this.#rev + 1;
    const by = this.#services.guildLog.incarnation;
    const epoch = this.#by === by ? this.#epoch : this.#epoch + 1;
    const messageId = this.#services.guildLog.newMessageId();
    const snapshot = this.#asSnapshot;
    const payload = snapshot
      ? this.#snapshotText(rev, epoch, by)
      : encodeEvent({
          rev,
          epoch,
          by,
          at: Date.now(),
          opsJson: batch.opsJson,
          cause: batch.cause!,
          effects: batch.effects,
        });
    const life = this.#life;
    const claim = { messageId, rev, epoch, by, expectedSeq: this.#seq };
    const append = {
      subject: this.subject,
      kind: snapshot ? ("snapshot" as const) : ("event" as const),
      payload,
      claim,
    };
    this.#services.guildLog.append(append, (outcome) => {
      if (life === this.#life) this.#appended(batch, rev, epoch, outcome);
    });
  }

  /** Called when others made room for another append. */
  flushNow(): void {
    if (this.#mode !== "dropped") this.#flush();
  }

  #appended(batch: Batch, rev: number, epoch: number, outcome: AppendOutcome): void {
    switch (outcome.verdict) {
      case "stored":
        this.#inFlight = undefined;
        this.#rev = rev;
        this.#epoch = epoch;
        this.#seq = outcome.seq;
        this.#by = this.#services.guildLog.incarnation;
        this.#asSnapshot = false;
        this.#services.appended(this.id, outcome.seq);
        this.#finish(batch);
        this.#flush();
        if (this.#waiting.length > 0) this.#runWaiting();
        this.#departWhenQuiet();
        return;
      case "fenced":
        this.#services.counters.fenced += 1;
        this.#services.log.warn(
          { event: "guild_fenced", guildId: this.id, by: outcome.by, epoch: outcome.epoch },
          "fenced",
        );
        if (this.#departing !== undefined || this.#services.isOurs(this.id)) {
          this.#reload([batch, this.#pending]);
        } else this.#services.abandon(this);
        return;
      case "overtaken":
        this.#services.log.warn(
          { event: "guild_overtaken", guildId: this.id, by: outcome.by, seq: outcome.seq },
          "overtaken",
        );
        this.#reload([batch, this.#pending]);
        return;
      case "lost":
        this.#services.log.error(
          { event: "stream_rewound", guildId: this.id, had: this.#seq, has: outcome.lastSeq },
          "repairing",
        );
        this.#repairLost(batch, outcome.lastSeq);
        return;
      case "refused":
        this.#services.log.error(
          {
            event: "append_refused",
            guildId: this.id,
            code: outcome.error.code,
            error: outcome.error.message,
            hint: outcome.error.hint,
          },
          "the event cannot be stored; the guild's state is as the log has it",
        );
        this.#services.counters.handlerErrors += batch.works.length;
        // Loaded afresh without it; what came after it runs again on the state before it.
        for (const work of batch.works) work.complete();
        this.#reload([this.#pending]);
        return;
    }
  }

  /** What memory holds is all there is of the lost part: everything pending goes into one snapshot on top. */
  #repairLost(batch: Batch, lastSeq: number): void {
    for (const work of this.#pending?.works ?? []) batch.works.push(work);
    batch.effects.push(...(this.#pending?.effects ?? []));
    this.#seq = lastSeq;
    this.#asSnapshot = true;
    this.#inFlight = undefined;
    this.#pending = batch;
    this.#flush();
  }

  #snapshotText(rev: number, epoch: number, by: string): string {
    const body = {
      v: wireVersion,
      rev,
      epoch,
      by,
      at: Date.now(),
      state: this.#state,
      cursor: this.#cursor,
      head: this.#seq,
    };
    return JSON.stringify(body);
  }

  #finish(batch: Batch): void {
    const first = batch.works[0];
    if (batch.effects.length === 0 || first === undefined) {
      for (const work of batch.works) work.complete();
      return;
    }
    void this.#services.send(batch.effects, first.payload.t).finally(() => {
      for (const work of batch.works) work.complete();
    });
  }
}
