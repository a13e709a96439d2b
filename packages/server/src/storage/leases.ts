/** Leases: of several servers on a database, which does a kind of work in the background. They last by the database's clock. */

/** A lease, and who holds it. */
export interface LeaseRef {
  name: string;
  owner: string;
}

export interface Leases {
  /** Takes it for `duration` milliseconds. False when another owner holds it. */
  acquireLease(lease: LeaseRef, duration: number): Promise<boolean>;
  /** Makes it last for `duration` milliseconds from now. False when it was released, or after its end another owner took it. */
  renewLease(lease: LeaseRef, duration: number): Promise<boolean>;
  releaseLease(lease: LeaseRef): Promise<void>;
  /** Ends all leases: for a server that knows itself to be the only one on the database. */
  clearLeases(): Promise<void>;
}
