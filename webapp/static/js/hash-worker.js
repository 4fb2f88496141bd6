// The SHA-256 of a file, read piece by piece beside the page. Answers {read} now and then, and {sha256} or {error}.
const PIECE = 1 << 22;

onmessage = async ({ data: { file, library } }) => {
  try {
    importScripts(library);
    const hash = self.sha256.create();
    for (let at = 0; at < file.size; at += PIECE) {
      hash.update(new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer()));
      postMessage({ read: Math.min(at + PIECE, file.size) });
    }
    postMessage({ sha256: hash.hex() });
  } catch (error) {
    postMessage({ error: String(error.message || error) });
  }
};
