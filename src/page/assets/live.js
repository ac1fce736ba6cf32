// Snapshots from the server: a stream of them while it holds, asking every few seconds while it does not.

const POLL_MS = 5000;
/** The server itself waits up to 10 s for its first figures. */
const PATIENCE_MS = 15000;
/** A stream that is silent for so long may be dead without anybody having been told. */
const SILENCE_MS = 20000;

const PATHS = { shop: "api/page/shop", pipeline: "api/page/pipeline" };

/**
 * Calls `heard(kind, snapshot)` for each snapshot and `changed(state)` when the way they come changes:
 * connecting, live, polling (the stream broke, the server answers), paused, gone, refused (the token is missing).
 */
export class Live {
  #heard;
  #changed;
  #state = "connecting";
  #stream = null;
  #timer = null;
  #last = 0;
  #busy = false;

  constructor(heard, changed) {
    this.#heard = heard;
    this.#changed = changed;
  }

  get state() {
    return this.#state;
  }

  start() {
    this.stop("connecting");
    this.#open();
    this.#timer = setInterval(() => this.#watch(), POLL_MS);
  }

  stop(state = "paused") {
    this.#stream?.close();
    this.#stream = null;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#become(state);
  }

  /** Asks for both snapshots now. True if the server answered. */
  async refresh() {
    try {
      await Promise.all(Object.keys(PATHS).map((kind) => this.#ask(kind)));
      if (this.#timer === null) this.#become("paused");
      return true;
    } catch (error) {
      this.#become(error instanceof Refused ? "refused" : error instanceof NotYet ? "connecting" : "gone");
      return false;
    }
  }

  #open() {
    const stream = new EventSource("api/page/stream");
    this.#stream = stream;
    this.#last = Date.now();
    for (const kind of Object.keys(PATHS)) {
      stream.addEventListener(kind, (event) => {
        if (stream !== this.#stream) return;
        this.#last = Date.now();
        this.#become("live");
        this.#heard(kind, JSON.parse(event.data));
      });
    }
    stream.addEventListener("open", () => {
      if (stream === this.#stream) this.#last = Date.now();
    });
    stream.addEventListener("error", () => {
      if (stream !== this.#stream) return;
      // The browser gives up for good on some answers; the watch opens a new one.
      if (stream.readyState === EventSource.CLOSED) this.#stream = null;
      if (this.#state === "live" || this.#state === "connecting") this.#poll();
    });
  }

  async #watch() {
    if (this.#busy) return;
    this.#busy = true;
    await this.#look();
    this.#busy = false;
  }

  async #look() {
    const silent = () => Date.now() - this.#last > SILENCE_MS;
    if (this.#state === "live" && !silent()) return;
    await this.#poll();
    if (this.#timer !== null && (this.#stream === null || silent())) {
      this.#stream?.close();
      this.#open();
    }
  }

  async #poll() {
    const asked = Date.now();
    const answered = await this.refresh();
    // The stream may have come back meanwhile.
    if (answered && this.#timer !== null && this.#last < asked) this.#become("polling");
  }

  async #ask(kind) {
    const answer = await fetch(PATHS[kind], { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status === 401 || answer.status === 403) throw new Refused();
    if (answer.status === 503) throw new NotYet();
    if (!answer.ok) throw new Error(`${PATHS[kind]}: ${answer.status}`);
    this.#heard(kind, await answer.json());
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#changed(state);
  }
}

/** The token is missing. */
class Refused extends Error {}
/** The server is there and has no figures yet. */
class NotYet extends Error {}
