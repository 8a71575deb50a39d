/**
 * One head of one call of a trace.
 * @typedef {{trace: string, call: number, head: string}} Place
 *
 * A tile of the pyramid over the matrix: level l has cells of 2^l x 2^l weights, 256 x 256 of them in a tile.
 * @typedef {{level: number, row: number, column: number}} TileName
 *
 * A tile's cells, row after row; NaN where nothing is visible; sampled while they are not exact.
 * @typedef {{values: Float32Array, width: number, height: number, sampled: boolean}} TilePicture
 *
 * @typedef {{id: string, title: string, model: string}} TraceInfo
 *
 * Tokens of one side of a section; `places` are numbered positions without text.
 * @typedef {{id: string, count: number, places: boolean}} SideInfo
 *
 * @typedef {object} LayerInfo
 * @property {number} call what a Place calls it
 * @property {string} name the module's
 * @property {"self" | "cross"} kind
 * @property {number} heads
 * @property {number} n queries
 * @property {number} m keys
 * @property {number} offset query i stands at position i + offset
 * @property {number} width of queries and keys
 * @property {number} scale
 * @property {number | null} softcap
 * @property {boolean} verified
 * @property {string} reason why it is not
 * @property {boolean} hasValues
 * @property {number} top the level at which the whole matrix is one tile
 * @property {number} coarse the finest level that one pass over the whole matrix gives
 *
 * @typedef {object} SectionInfo
 * @property {string} name
 * @property {boolean} isSelf whether queries and keys are the same tokens
 * @property {boolean} isCausal
 * @property {SideInfo} queries
 * @property {SideInfo} keys
 * @property {LayerInfo[]} layers
 *
 * An image whose patches, or a sound whose frames, are positions from `first` on.
 * @typedef {{kind: "image", width: number, height: number, rows: number, columns: number, first: number}} ImageInfo
 * @typedef {{kind: "sound", frames: number, bins: number, seconds: number, first: number, count: number}} SoundInfo
 *
 * What came out: a text that was written (or given), or a choice of a label or of the next token, the likeliest first;
 * after: the end of the text that the next token follows.
 * @typedef {{kind: "text" | "label" | "next", name: string, text: string, given: boolean,
 *   choices: {text: string, probability: number}[], after?: string}} Output
 *
 * @typedef {object} About
 * @property {string} id
 * @property {string} title
 * @property {string} model
 * @property {string[]} texts
 * @property {Output | null} [output] null where nobody knows
 * @property {string[]} notices
 * @property {string} caveat
 * @property {string} version
 * @property {SectionInfo[]} sections
 * @property {{section: string, layer: number, head: number, query: number | null, words: boolean}} start
 * @property {ImageInfo | SoundInfo | null} medium
 * @property {{name: string, section: string, caveat: string}[]} flows "rollout", "relevance"
 * @property {LensInfo | null} [lens]
 * @property {{of: string | null} | null} [whatIf] where the model can read it again with changes; the trace of which it is a change
 *
 * Word numbers rise; a glued token has no blank before it.
 * @typedef {{texts: string[], words: number[], special: boolean[], glued: boolean[]}} Tokens
 *
 * One place along the residual stream: behind the embedding, behind a half of a layer, or behind a whole one.
 * @typedef {{name: string, layer: number | null, kind: string}} StageInfo
 *
 * Who writes to the stream: "head", "cross head", "feed-forward", "output bias", "tokens", ...
 * @typedef {{name: string, layer: number | null, head: number | null, kind: string}} PartInfo
 *
 * What vectors say in words: whose positions, at which stages; `heads` says which layer of which section a block's are.
 * @typedef {object} LensInfo
 * @property {string[]} sections whose queries are the positions
 * @property {"words" | "labels"} reads
 * @property {number} count
 * @property {StageInfo[]} stages
 * @property {PartInfo[] | null} parts null where a word's logit is no sum over parts
 * @property {Object<string, {section: string, layers: (number | null)[]}>} heads
 * @property {string[]} notes
 *
 * The likeliest words at a stage; rank and probability of the word that comes out at the end.
 * @typedef {{words: {text: string, probability: number}[], rank: number, probability: number}} LensStage
 *
 * Of one position: the word that comes out, and what each part brought to its logit.
 * @typedef {{position: number, word: {text: string, logit: number}, stages: LensStage[], parts: number[] | null}} Lens
 *
 * What a model makes of a text: the likeliest labels, or next words at some positions, and what it writes by itself.
 * @typedef {{about: string, places: number[], candidates: [string, number][][], text: string | null}} Outcome
 *
 * What each head does to an answer, by section and layer: how much its number changes without the head.
 * @typedef {{about: string, baseline: number, sections: Object<string, (number | null)[][]>}} HeadEffects
 *
 * The weight of one cell; null where the query may not look at the key, and score and rank for a mean over heads.
 * @typedef {{weight: number | null, score: number | null, rank: number | null, of: number, entropy: number | null}} Cell
 *
 * @typedef {{key: number, weight: number, scores: number, scaled: number, capped?: number, biased?: number,
 *   masked: number, vector: number[], value: number[] | null}} StagesOfKey
 *
 * Every stage of one query in one head, for its largest weights; contexts are null where values were not kept.
 * @typedef {object} Stages
 * @property {number} query
 * @property {number} scale
 * @property {number | null} softcap
 * @property {string[]} stages
 * @property {number | null} lse
 * @property {number} visible
 * @property {number | null} sink the weight that a sink takes and no key gets; null without one
 * @property {number[]} queryVector
 * @property {StagesOfKey[]} keys
 * @property {{keys: number, weight: number}} rest
 * @property {number[] | null} context
 * @property {{head: number, context: number[] | null}[]} heads
 *
 * Means over rows, a number for each head.
 * @typedef {{rows: number, of: number, sampled: boolean, heads: Object<string, (number | null)[]>, labels: (string | null)[]}} Numbers
 *
 * @typedef {{values: Float32Array, heads: number, height: number, width: number}} Thumbnails
 *
 * Where the page's numbers come from: what it carries itself, or the server that it came from.
 * @typedef {object} Source
 * @property {{read: boolean, upload: boolean, carry?: boolean, live?: boolean}} can carry: pictures and numbers of heads cost
 *   nothing; live: the page runs the model (source/live.js)
 * @property {() => Promise<TraceInfo[]>} list
 * @property {(trace: string) => Promise<About>} about
 * @property {(trace: string, side: string, from: number, count: number) => Promise<Tokens>} tokens
 * @property {(trace: string, side: string, text: string, from: number) => Promise<number[]>} find
 * @property {(place: Place, tile: TileName, how: {reduce: string, quick: boolean, signal?: AbortSignal}) => Promise<TilePicture>} tile
 * @property {(place: Place) => Promise<{share: number, exact: boolean}>} progress
 * @property {(place: Place, from: number, to: number, signal?: AbortSignal) => Promise<Float32Array>} row [M], mean over the queries; NaN: hidden
 * @property {(place: Place, from: number, to: number, signal?: AbortSignal) => Promise<Float32Array>} column [N], sum over the keys; NaN: hidden
 * @property {(place: Place, signal?: AbortSignal) => Promise<Float32Array>} received [M], mean over all queries
 * @property {(place: Place, query: number, key: number, signal?: AbortSignal) => Promise<Cell>} cell
 * @property {(place: Place, query: number, k: number, signal?: AbortSignal) => Promise<Stages>} stages
 * @property {(trace: string, call: number, signal?: AbortSignal) => Promise<Numbers>} numbers
 * @property {(trace: string, call: number, signal?: AbortSignal) => Promise<Thumbnails>} thumbnails
 * @property {(trace: string, section: string, name: string, how: {direction: string, from: number, to: number, signal?: AbortSignal, onProgress?: (share: number) => void}) => Promise<Float32Array>} flow
 * @property {(trace: string, position: number, signal?: AbortSignal) => Promise<Lens>} lens where About has one
 * @property {(trace: string, changes: import("../live/changes.js").Change[], how: {onProgress?: (share: number, what: string) => void, signal?: AbortSignal}) => Promise<{trace: string, before: Outcome, after: Outcome}>} [whatIf] where About has one
 * @property {(trace: string, how: {onProgress?: (share: number, what: string) => void, signal?: AbortSignal}) => Promise<HeadEffects>} [effects]
 * @property {(trace: string) => Promise<ImageData | Float32Array>} medium pixels, or frames x bins
 * @property {(texts: {text: string, pair: string}, how: {onProgress: (share: number, what: string) => void, signal: AbortSignal}) => Promise<string>} read
 * @property {(file: File, how: {onProgress: (share: number, what: string) => void, signal: AbortSignal}) => Promise<string>} upload
 */

export {};
