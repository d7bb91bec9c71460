// What every page does with its server: it asks in JSON, and keeps in this browser's storage what the server has not said that it has.

// A function that asks: (path) gets, (path, body) posts. Its error has the `status`, and `again` where the same may be sent again: the server cannot be
// reached (which is said in the words of `unreachable`), or is itself at fault.
export function asking({ unreachable, headers = {}, patience = 20000 }) {
  return async (path, body) => {
    const sent = { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
    let answer;
    try {
      answer = await fetch(path, { ...(body === undefined ? {} : sent), signal: AbortSignal.timeout(patience) });
    } catch {
      throw Object.assign(new Error(`The server cannot be reached. ${unreachable}`), { again: true });
    }
    const value = await answer.json().catch(() => ({}));
    if (answer.ok) return value;
    throw Object.assign(new Error(value.error || `The server answered ${answer.status}.`), { status: answer.status, again: answer.status >= 500 });
  };
}

// One thing at a time that is kept under `name` until the server has it at `path`. What never reached the server, or whose answer never came back, is sent
// again: a second copy is refused there (409).
export class Kept {
  constructor(name, path, ask) {
    Object.assign(this, { name, path, ask });
  }

  put(value) {
    localStorage.setItem(this.name, JSON.stringify(value));
  }

  // Sends what is kept. The server's refusal, which is final, is returned; an error that may pass is thrown, and the thing stays.
  async flush() {
    const value = localStorage.getItem(this.name);
    if (!value) return undefined;
    let refusal;
    try {
      await this.ask(this.path, JSON.parse(value));
    } catch (error) {
      if (error.again) throw error;
      refusal = error;
    }
    localStorage.removeItem(this.name);
    return refusal;
  }
}
