/** Two ordered sequences as one, in which what belongs together comes together. */

/**
 * Pairs of what has the same place in both; null where one of them has nothing there. Both are in the order of `compare`, each
 * place at most once in each. Of a pair everything has to be read before the next one is asked for. In the end both sequences are
 * closed, however it comes to it.
 */
export async function* sideBySide<Left, Right>(
  left: AsyncGenerator<Left>,
  right: AsyncGenerator<Right>,
  compare: (left: Left, right: Right) => number,
): AsyncGenerator<[Left, Right] | [Left, null] | [null, Right]> {
  try {
    let [one, other] = [await next(left), await next(right)];
    while (one !== null || other !== null) {
      const order = one === null ? 1 : other === null ? -1 : compare(one, other);
      if (one !== null && other !== null && order === 0) {
        yield [one, other];
        [one, other] = [await next(left), await next(right)];
      } else if (one !== null && order < 0) {
        yield [one, null];
        one = await next(left);
      } else if (other !== null) {
        yield [null, other];
        other = await next(right);
      }
    }
  } finally {
    await left.return(undefined);
    await right.return(undefined);
  }
}

async function next<Item>(items: AsyncGenerator<Item>): Promise<Item | null> {
  const found = await items.next();
  return found.done === true ? null : found.value;
}
