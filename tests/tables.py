"""Results of tasks as the tables that they are mapped into."""

import pyarrow as pa

from bestiary.mapping.columns import result_fields, with_results


def table_of(task, inputs):
    """The rows that mapping writes of the answers to these inputs, read back as plain values."""
    records = [task.record(result) for result in task.answers(inputs, batch_size=2)]
    kept = pa.table({"number": list(range(len(inputs)))})
    schema = pa.schema([*kept.schema, *result_fields(task.returns(), kept.column_names)])
    return with_results(kept, records, task.returns(), schema).drop_columns("number").to_pylist()
