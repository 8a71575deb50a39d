/** What the page knows of the traces, asked of the server that it came from. */
export class ServedSource {
  traces() {
    return this.json("/api/traces");
  }

  about(trace) {
    return this.json(`/api/traces/${encodeURIComponent(trace)}`);
  }

  tokens(trace, from, count) {
    return this.json(`/api/traces/${trace}/tokens?${new URLSearchParams({ from, count })}`);
  }

  find(trace, text, from) {
    return this.json(`/api/traces/${trace}/find?${new URLSearchParams({ text, from })}`);
  }

  /** A readout of a head as JSON: "cell", "stages", "numbers", "progress". */
  read(head, name, query = {}, signal = undefined) {
    return this.json(address(head, name, query), signal);
  }

  /** A readout of a head as numbers: "row", "column", "entropy", "received", "tile". */
  async numbers(head, name, query = {}, signal = undefined) {
    const answer = await this.fetch(address(head, name, query), signal);
    const [height, width = 1] = answer.headers.get("x-sightline-shape").split(",").map(Number);
    const values = new Float32Array(await answer.arrayBuffer());
    return { values, height, width, sampled: answer.headers.get("x-sightline-sampled") === "1" };
  }

  async json(where, signal = undefined) {
    return (await this.fetch(where, signal)).json();
  }

  async fetch(where, signal) {
    const answer = await fetch(where, { signal });
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `the server answered ${answer.status}`);
  }
}

function address(head, name, query) {
  const asked = new URLSearchParams({ head: head.head, ...query });
  return `/api/traces/${encodeURIComponent(head.trace)}/calls/${head.call}/${name}?${asked}`;
}
