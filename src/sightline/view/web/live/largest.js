/**
 * Places of the k largest numbers, descending.
 * @param {ArrayLike<number>} numbers
 * @param {number} k
 */
export function placesOfLargest(numbers, k) {
  /** @type {number[]} */
  const best = [];
  for (let at = 0; at < numbers.length; at++) {
    if (best.length === k && !(numbers[at] > numbers[best[k - 1]])) continue;
    let place = best.length;
    while (place > 0 && numbers[best[place - 1]] < numbers[at]) place -= 1;
    best.splice(place, 0, at);
    if (best.length > k) best.pop();
  }
  return best;
}
