//! What the strict look at a request refuses, and how it is told.

/// Why the bytes of a connection are no acceptable request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A method that is no token (RFC 9110, 9.1).
    Method,
    /// A request line that does not end in a version (RFC 9112, 3).
    NoVersion,
    /// A version other than 1.0 and 1.1 (RFC 9110, 15.6.6). A later 1.x would be served as 1.1 (2.5), if there were one.
    Version,
    /// A byte in the target that no URL has (RFC 9112, 3.2).
    TargetByte,
    /// A target that is neither a path nor a URL (3.2).
    TargetForm,
    /// A target that is longer than any that is read (3).
    TargetTooLong,
    /// A line that does not end in CR LF (2.2).
    BareLf,
    /// White space between a field name and its colon (5.1), or a folded line (5.2).
    Space,
    /// A field without a colon, or whose name is no token (5).
    FieldName,
    /// A control character in a field's value (RFC 9110, 5.5).
    FieldValue,
    /// More than one `Content-Length` (RFC 9112, 6.3).
    TwoLengths,
    /// `Content-Length` beside `Transfer-Encoding` (6.1).
    LengthAndChunked,
    /// A `Content-Length` that is no decimal number, or too large for anything (6.3).
    BadLength,
    /// A `Transfer-Encoding` other than `chunked`, more than one, or one in HTTP/1.0 (6.1).
    BadEncoding,
    /// A chunk that breaks the grammar (7.1).
    BadChunk,
    /// A body in a request to open a WebSocket (RFC 6455, 4.1, knows none).
    UpgradeBody,
    /// The request line and fields are too long.
    HeadTooLarge,
    /// Too many fields.
    TooManyFields,
    /// The head took too long to arrive.
    HeadTimeout,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Method,
        Self::NoVersion,
        Self::Version,
        Self::TargetByte,
        Self::TargetForm,
        Self::TargetTooLong,
        Self::BareLf,
        Self::Space,
        Self::FieldName,
        Self::FieldValue,
        Self::TwoLengths,
        Self::LengthAndChunked,
        Self::BadLength,
        Self::BadEncoding,
        Self::BadChunk,
        Self::UpgradeBody,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::HeadTimeout,
    ];

    /// A stable word for logs, metrics and problem documents.
    pub fn code(self) -> &'static str {
        match self {
            Self::Method | Self::NoVersion | Self::TargetByte | Self::TargetForm => "bad_request",
            Self::FieldName | Self::FieldValue => "bad_request",
            Self::BareLf | Self::Space | Self::TwoLengths | Self::LengthAndChunked => "bad_framing",
            Self::BadLength | Self::BadEncoding | Self::BadChunk => "bad_framing",
            Self::UpgradeBody => "bad_framing",
            Self::Version => "version_not_supported",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge | Self::TooManyFields => "head_too_large",
            Self::HeadTimeout => "head_timeout",
        }
    }

    /// A clause that is safe to show.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Method => "the request's method is not a token",
            Self::NoVersion => "the request line is not a method, a target and an HTTP version",
            Self::Version => "the request's version of HTTP is neither 1.0 nor 1.1",
            Self::TargetByte => {
                "the request's URL has a byte that must be escaped there: white space, a control character, <, >, #, a quote, or what \
                 is not UTF-8"
            }
            Self::TargetForm => {
                "the request's target is neither a path that begins with a slash nor an http URL"
            }
            Self::TargetTooLong => "the request's URL is too long",
            Self::BareLf => "a line of the request ends in LF without CR",
            Self::Space => "a field of the request has space before its colon, or is folded",
            Self::FieldName => "a field of the request has no colon, or a name that is not a token",
            Self::FieldValue => "a field of the request has a control character in its value",
            Self::TwoLengths => "the request has more than one Content-Length",
            Self::LengthAndChunked => "the request has both Content-Length and Transfer-Encoding",
            Self::BadLength => "the request's Content-Length is not a decimal number below 2^63",
            Self::BadEncoding => {
                "the request's Transfer-Encoding is not just chunked, or its version is 1.0"
            }
            Self::BadChunk => "the request's chunked body is malformed",
            Self::UpgradeBody => "a request to open a WebSocket has no body, and this one has",
            Self::HeadTooLarge => "the request line and fields are too long",
            Self::TooManyFields => "the request has too many fields",
            Self::HeadTimeout => "the request line and fields took too long to arrive",
        }
    }

    /// The full name of the setting that was met, if it is a limit.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::HeadTooLarge | Self::TargetTooLong => Some("http.head_bytes_max"),
            Self::TooManyFields => Some("http.head_fields_max"),
            Self::HeadTimeout => Some("http.head_timeout_s"),
            Self::Method | Self::NoVersion | Self::Version => None,
            Self::TargetByte | Self::TargetForm | Self::FieldName | Self::FieldValue => None,
            Self::BareLf | Self::Space | Self::TwoLengths | Self::LengthAndChunked => None,
            Self::BadLength | Self::BadEncoding | Self::BadChunk | Self::UpgradeBody => None,
        }
    }
}
