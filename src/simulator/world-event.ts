/**
 * One dispatch of the world, shared by the sessions that hold it: serialised once, counted once.
 *
 * `holders` is the number of live sessions with the event in their stream and `receipt` the furthest
 * it got in any of them; together they decide what the ledger does when the last holder is lost.
 */

/** How far an event got: in a stream only, written to a socket, named by a client's sequence. */
export const Receipt = { none: 0, written: 1, told: 2 } as const;

export class WorldEvent {
  holders = 0;
  receipt: number = Receipt.none;
  /** The last six digits of the id for MESSAGE_CREATE and INTERACTION_CREATE, else 0. */
  readonly idTail: number;

  /**
   * @param key guild id, or "dm"
   * @param id the message's or interaction's id
   * @param full the serialised payload
   * @param bare the same without message content, where that differs and someone needs it
   */
  constructor(
    readonly t: string,
    readonly key: string,
    readonly id: string,
    readonly full: string,
    readonly bare: string,
  ) {
    this.idTail = t === "MESSAGE_CREATE" || t === "INTERACTION_CREATE" ? Number(id.slice(-6)) : 0;
  }
}

/** A dispatch of one session only (READY, start-up GUILD_CREATE): made when sent, never counted. */
export class PrivateEvent {
  /**
   * @param handshake READY and RESUMED: part of opening a connection, skipped in a replay
   */
  constructor(
    readonly t: string,
    readonly make: () => unknown,
    readonly handshake = false,
  ) {}
}
