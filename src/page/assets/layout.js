// Where the nodes of a dataflow stand: layers from left to right, in an order with few crossings, edges that pass
// through a layer as narrow places of their own. Knows nothing of drawing; the same graph is laid out the same way.

const SWEEPS = 12;

/**
 * `nodes` are {id, inputs}; `size` is {width, height, column, row, lane}: a node's, the room between layers and between
 * nodes, the height an edge takes in a layer it passes. Gives {places: Map of id to {x, y, layer}, edges: [{from, to,
 * points}], width, height}; x and y are a node's upper left corner, the points those that an edge runs through.
 */
export function layout(nodes, size) {
  const layers = layersOf(nodes);
  const { columns, chains } = columnsOf(nodes, layers);
  order(columns);
  settle(columns, size);
  const height = columns.flat().reduce((most, cell) => Math.max(most, cell.y + cell.height), 0);
  const x = (layer) => layer * (size.width + size.column);
  const places = new Map();
  for (const cell of columns.flat()) {
    if (cell.id !== null) places.set(cell.id, { x: x(cell.layer), y: cell.y, layer: cell.layer });
  }
  const middle = (cell) => cell.y + cell.height / 2;
  const edges = chains.map(({ from, to, cells }) => ({
    from,
    to,
    points: cells.flatMap((cell, index) => {
      const left = [x(cell.layer), middle(cell)];
      const right = [x(cell.layer) + size.width, middle(cell)];
      return index === 0 ? [right] : index === cells.length - 1 ? [left] : [left, right];
    }),
  }));
  return { places, edges, width: columns.length * (size.width + size.column) - size.column, height };
}

/** The longest way from any source. */
function layersOf(nodes) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const layers = new Map();
  const visit = (node, under) => {
    if (layers.has(node.id)) return layers.get(node.id);
    // A circle cannot be, but a page must not hang on one.
    if (under.has(node.id)) return 0;
    under.add(node.id);
    const inputs = node.inputs.filter((id) => byId.has(id));
    const layer = inputs.reduce((most, id) => Math.max(most, visit(byId.get(id), under) + 1), 0);
    under.delete(node.id);
    layers.set(node.id, layer);
    return layer;
  };
  for (const node of nodes) visit(node, new Set());
  return layers;
}

/** Cells by layer, with a narrow one in each layer that an edge passes. */
function columnsOf(nodes, layers) {
  const columns = Array.from({ length: Math.max(0, ...layers.values()) + 1 }, () => []);
  const cells = new Map();
  const put = (id, layer) => {
    const cell = { id, layer, before: [], after: [], y: 0, height: 0 };
    columns[layer].push(cell);
    return cell;
  };
  for (const node of nodes) cells.set(node.id, put(node.id, layers.get(node.id)));
  const chains = [];
  for (const node of nodes) {
    for (const input of new Set(node.inputs)) {
      const [from, to] = [cells.get(input), cells.get(node.id)];
      if (!from || from.layer >= to.layer) continue;
      const chain = [from];
      for (let layer = from.layer + 1; layer < to.layer; layer += 1) chain.push(put(null, layer));
      chain.push(to);
      for (let index = 1; index < chain.length; index += 1) {
        chain[index - 1].after.push(chain[index]);
        chain[index].before.push(chain[index - 1]);
      }
      chains.push({ from: input, to: node.id, cells: chain });
    }
  }
  return { columns, chains };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Each layer sorted by where its neighbours stand, to and fro; the order with the fewest crossings is kept. */
function order(columns) {
  const number = () => {
    for (const column of columns)
      column.forEach((cell, place) => {
        cell.place = place;
      });
  };
  number();
  let best = { crossings: crossings(columns), columns: columns.map((column) => [...column]) };
  for (let sweep = 0; sweep < SWEEPS && best.crossings > 0; sweep += 1) {
    const side = sweep % 2 === 0 ? "before" : "after";
    for (const column of sweep % 2 === 0 ? columns : [...columns].reverse()) {
      const wish = new Map(
        column.map((cell) => [cell, cell[side].length > 0 ? mean(cell[side].map((other) => other.place)) : cell.place]),
      );
      column.sort((a, b) => wish.get(a) - wish.get(b) || a.place - b.place);
      column.forEach((cell, place) => {
        cell.place = place;
      });
    }
    const found = crossings(columns);
    if (found < best.crossings) best = { crossings: found, columns: columns.map((column) => [...column]) };
  }
  best.columns.forEach((column, layer) => columns[layer].splice(0, column.length, ...column));
  number();
}

function crossings(columns) {
  let sum = 0;
  for (const column of columns) {
    const ends = column.flatMap((cell) => cell.after.map((other) => [cell.place, other.place]));
    for (let one = 0; one < ends.length; one += 1) {
      for (let two = one + 1; two < ends.length; two += 1) {
        if ((ends[one][0] - ends[two][0]) * (ends[one][1] - ends[two][1]) < 0) sum += 1;
      }
    }
  }
  return sum;
}

/** Heights: each cell near its neighbours, none nearer to the next of its layer than allowed. */
function settle(columns, size) {
  const gap = (above, below) => above.height + (above.id === null && below.id === null ? size.lane : size.row);
  for (const column of columns) {
    let y = 0;
    column.forEach((cell, place) => {
      cell.height = cell.id === null ? size.lane : size.height;
      if (place > 0) y += gap(column[place - 1], cell);
      cell.y = y;
    });
  }
  const middle = (cell) => cell.y + cell.height / 2;
  for (let round = 0; round < 2 * SWEEPS; round += 1) {
    for (const column of round % 2 === 0 ? columns : [...columns].reverse()) {
      const wishes = column.map((cell) => {
        const others = [...cell.before, ...cell.after];
        return others.length > 0 ? mean(others.map(middle)) - cell.height / 2 : cell.y;
      });
      pack(column, wishes, gap);
    }
  }
  const top = Math.min(...columns.flat().map((cell) => cell.y));
  for (const cell of columns.flat()) cell.y -= top;
}

/** Cells at their wishes as far as they fit: those that push one another move together, to the mean of their wishes. */
function pack(column, wishes, gap) {
  const blocks = [];
  column.forEach((cell, place) => {
    const offset = place === 0 ? 0 : gap(column[place - 1], cell);
    let block = { cells: [{ cell, offset: 0 }], sum: wishes[place], length: 0, lead: offset };
    block.y = block.sum;
    while (blocks.length > 0) {
      const above = blocks.at(-1);
      const least = above.y + above.length + block.lead;
      if (block.y >= least) break;
      blocks.pop();
      const shift = above.length + block.lead;
      const cells = [...above.cells, ...block.cells.map((one) => ({ cell: one.cell, offset: one.offset + shift }))];
      const sum = above.sum + block.sum - shift * block.cells.length;
      block = { cells, sum, length: shift + block.length, lead: above.lead, y: sum / cells.length };
    }
    blocks.push(block);
  });
  for (const block of blocks) for (const { cell, offset } of block.cells) cell.y = block.y + offset;
}
