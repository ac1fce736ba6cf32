//! Delta tables that tests write: rows of a source, with an event time and with the place at which each stood.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::{DataType as DeltaType, PrimitiveType};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::writer::{DeltaWriter, RecordBatchWriter};
use tempfile::TempDir;

use super::place::DeltaPlace;

/// A row as it was sent: its split, its offset, its event time in microseconds, its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) time: i64,
    pub(super) value: String,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("value", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("day", DataType::Int32, true),
    ]))
}

fn batch(rows: &[Sent]) -> RecordBatch {
    let days = rows.iter().map(|row| (row.time / 1000) as i32);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.value))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.partition))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.offset))),
        Arc::new(Int32Array::from_iter_values(days)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A Delta table that each call of [`Written::commit`] adds a version to.
pub(super) struct Written {
    _folder: TempDir,
    pub(super) place: DeltaPlace,
    table: DeltaTable,
}

impl Written {
    pub(super) async fn new(by_day: bool) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let place = DeltaPlace::folder(folder.path().join("t")).unwrap();
        let primitive = DeltaType::Primitive;
        let mut create = CreateBuilder::new().with_log_store(place.log_store().unwrap());
        for (name, data_type) in [
            ("ts", primitive(PrimitiveType::TimestampNtz)),
            ("value", DeltaType::STRING),
            ("partition", DeltaType::INTEGER),
            ("offset", DeltaType::LONG),
            ("day", DeltaType::INTEGER),
        ] {
            create = create.with_column(name, data_type, true, None);
        }
        if by_day {
            create = create.with_partition_columns(["day"]);
        }
        let table = create.await.unwrap();
        Written { _folder: folder, place, table }
    }

    pub(super) async fn commit(&mut self, rows: &[Sent]) {
        let mut writer = RecordBatchWriter::for_table(&self.table).unwrap();
        writer.write(batch(rows)).await.unwrap();
        writer.flush_and_commit(&mut self.table).await.unwrap();
    }
}
