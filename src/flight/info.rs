//! What the server says of itself and of its types, for drivers that ask what they may rely on.

use std::sync::LazyLock;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction,
    SqlSupportsConvert, XdbcDataType, XdbcDatetimeSubcode,
};
use tonic::Status;

/// Everything that Flight SQL lets a server say.
pub fn server() -> Result<&'static SqlInfoData, Status> {
    static INFO: LazyLock<Result<SqlInfoData, FlightError>> = LazyLock::new(server_info);
    INFO.as_ref().map_err(|error| Status::internal(error.to_string()))
}

/// The types that columns may have.
pub fn types() -> Result<&'static XdbcTypeInfoData, Status> {
    static TYPES: LazyLock<Result<XdbcTypeInfoData, FlightError>> = LazyLock::new(type_info);
    TYPES.as_ref().map_err(|error| Status::internal(error.to_string()))
}

/// Several bits of an enumeration: bit *n* says that value *n* holds.
fn bits(values: &[i32]) -> i32 {
    values.iter().fold(0, |bits, value| bits | 1 << value)
}

fn server_info() -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    server_itself(&mut info);
    names(&mut info);
    grammar(&mut info);
    changes(&mut info);
    limits(&mut info);
    info.build()
}

fn server_itself(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::FlightSqlServerName, "Acequia");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

fn names(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    // DataFusion's own, beside those of SQL:2003 that every client knows.
    info.append(
        SqlInfo::SqlKeywords,
        &["EXCEPT", "FILTER", "ILIKE", "LATERAL", "LIMIT", "OFFSET", "QUALIFY"] as &[&str],
    );
    let numeric = "abs,acos,asin,atan,atan2,cbrt,ceil,cos,cot,degrees,exp,factorial,floor,gcd,lcm,ln,log,log10,log2,\
        nanvl,pi,power,radians,random,round,signum,sin,sqrt,tan,trunc";
    let texts = "ascii,bit_length,btrim,character_length,chr,concat,concat_ws,initcap,left,length,lower,lpad,ltrim,md5,\
        octet_length,overlay,position,regexp_like,regexp_match,regexp_replace,repeat,replace,reverse,right,rpad,rtrim,\
        split_part,starts_with,strpos,substr,to_hex,translate,trim,upper";
    let times = "current_date,current_time,date_bin,date_part,date_trunc,extract,from_unixtime,make_date,now,to_char,\
        to_date,to_timestamp,to_unixtime";
    for (kind, functions) in [
        (SqlInfo::SqlNumericFunctions, numeric),
        (SqlInfo::SqlStringFunctions, texts),
        (SqlInfo::SqlSystemFunctions, "coalesce,nullif,nvl,arrow_typeof,version"),
        (SqlInfo::SqlDatetimeFunctions, times),
    ] {
        info.append(kind, functions.split(',').map(str::to_owned).collect::<Vec<String>>());
    }
}

/// What a query may say. Numbers without a name of their own are of enumerations that arrow-flight does not export.
fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    for yes in [
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
    ] {
        info.append(yes, true);
    }
    for no in [
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        info.append(no, false);
    }
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    // GROUP BY of columns that are not selected; minimum and core grammar; ANSI-92 entry level.
    info.append(SqlInfo::SqlSupportedGroupBy, bits(&[0, 1]));
    info.append(SqlInfo::SqlSupportedGrammar, bits(&[0, 1]));
    info.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    // Full outer joins as well.
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, bits(&[0, 1, 2]));
    // In comparisons, EXISTS, IN and with ANY or ALL; UNION and UNION ALL.
    info.append(SqlInfo::SqlSupportedSubqueries, bits(&[0, 1, 2, 3]));
    info.append(SqlInfo::SqlSupportedUnions, bits(&[0, 1]));
    // Catalogs and schemas may stand in queries and nowhere else; results are read forward and once.
    info.append(SqlInfo::SqlSchemasSupportedActions, 0);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0);
    info.append(SqlInfo::SqlSupportedResultSetTypes, bits(&[1]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, bits(&[1]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, bits(&[1]));
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0);
}

/// What CAST converts: numbers into one another, everything into texts and texts into everything.
fn conversions() -> std::collections::HashMap<i32, Vec<i32>> {
    use SqlSupportsConvert::*;
    let numbers = [
        SqlConvertBigint,
        SqlConvertDecimal,
        SqlConvertFloat,
        SqlConvertInteger,
        SqlConvertNumeric,
        SqlConvertReal,
        SqlConvertSmallint,
        SqlConvertTinyint,
    ];
    let others = [SqlConvertDate, SqlConvertTime, SqlConvertTimestamp, SqlConvertBit];
    let texts = [SqlConvertChar, SqlConvertVarchar];
    let codes = |kinds: &[SqlSupportsConvert]| kinds.iter().map(|kind| *kind as i32).collect::<Vec<_>>();
    let mut convert = std::collections::HashMap::new();
    for number in numbers {
        convert.insert(number as i32, codes(&[&numbers[..], &texts].concat()));
    }
    for other in others {
        convert.insert(other as i32, codes(&texts));
    }
    convert.insert(
        SqlConvertTimestamp as i32,
        codes(&[SqlConvertDate, SqlConvertTime, SqlConvertChar, SqlConvertVarchar]),
    );
    for text in texts {
        convert.insert(text as i32, codes(&[&numbers[..], &others, &texts].concat()));
    }
    convert
}

/// Nothing can be changed.
fn changes(info: &mut SqlInfoDataBuilder) {
    for no in [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
    ] {
        info.append(no, false);
    }
    // Isolation: none. The definition wants 32 bits, the JDBC driver 64.
    info.append(SqlInfo::SqlDefaultTransactionIsolation, 0_i64);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[0]));
}

/// 0 says that there is no limit, or none that is known.
fn limits(info: &mut SqlInfoDataBuilder) {
    for code in SqlInfo::SqlMaxBinaryLiteralLength as u32..=SqlInfo::SqlMaxUsernameLength as u32 {
        if code == SqlInfo::SqlMaxRowSizeIncludesBlobs as u32 {
            info.append(code, false);
        } else {
            info.append(code, 0_i64);
        }
    }
}

fn type_info() -> Result<XdbcTypeInfoData, FlightError> {
    use XdbcDataType::*;
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, kind, size, radix) in [
        ("BOOLEAN", XdbcBit, 1, None),
        ("TINYINT", XdbcTinyint, 3, Some(10)),
        ("SMALLINT", XdbcSmallint, 5, Some(10)),
        ("INT", XdbcInteger, 10, Some(10)),
        ("BIGINT", XdbcBigint, 19, Some(10)),
        ("REAL", XdbcReal, 24, Some(2)),
        ("DOUBLE", XdbcDouble, 53, Some(2)),
    ] {
        types.append(XdbcTypeInfo {
            unsigned_attribute: radix.map(|_| false),
            num_prec_radix: radix,
            ..named(name, kind, size)
        });
    }
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        unsigned_attribute: Some(false),
        fixed_prec_scale: false,
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        num_prec_radix: Some(10),
        ..named("DECIMAL", XdbcDecimal, 38)
    });
    types.append(XdbcTypeInfo { case_sensitive: true, ..quoted("TEXT", XdbcVarchar, i32::MAX, "'") });
    types.append(quoted("BYTEA", XdbcVarbinary, i32::MAX, "X'"));
    // A date's code is that of a year.
    for (name, kind, size, prefix, code) in [
        ("DATE", XdbcDate, 10, "DATE '", XdbcDatetimeSubcode::XdbcSubcodeYear),
        ("TIME", XdbcTime, 15, "TIME '", XdbcDatetimeSubcode::XdbcSubcodeTime),
        ("TIMESTAMP", XdbcTimestamp, 26, "TIMESTAMP '", XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
    ] {
        types.append(XdbcTypeInfo {
            sql_data_type: XdbcDatetime,
            datetime_subcode: Some(code),
            ..quoted(name, kind, size, prefix)
        });
    }
    types.build()
}

fn named(name: &str, kind: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type: kind,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        local_type_name: Some(name.into()),
        sql_data_type: kind,
        ..XdbcTypeInfo::default()
    }
}

fn quoted(name: &str, kind: XdbcDataType, size: i32, prefix: &str) -> XdbcTypeInfo {
    XdbcTypeInfo { literal_prefix: Some(prefix.into()), literal_suffix: Some("'".into()), ..named(name, kind, size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_that_a_driver_may_ask_has_an_answer() {
        let all = server().unwrap().record_batch(None).unwrap();
        let unanswered: Vec<&str> = (0..=SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported as i32)
            .filter_map(|code| SqlInfo::try_from(code).ok())
            // There is no Substrait, so no version of it.
            .filter(|info| !info.as_str_name().contains("SUBSTRAIT_M"))
            .filter(|info| server().unwrap().record_batch([*info as u32]).unwrap().num_rows() != 1)
            .map(|info| info.as_str_name())
            .collect();
        assert_eq!(unanswered, Vec::<&str>::new());
        assert!(all.num_rows() > 80);
    }

    #[test]
    fn types_can_be_asked_for_by_their_code() {
        assert_eq!(types().unwrap().record_batch(None).unwrap().num_rows(), 13);
        assert_eq!(types().unwrap().record_batch(Some(XdbcDataType::XdbcBigint as i32)).unwrap().num_rows(), 1);
    }
}
