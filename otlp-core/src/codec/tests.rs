use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;
use crate::outcome::{Failure, Reason};
use crate::unit::ByteSize;

const MIB: usize = 1 << 20;

fn inflate(coding: Coding, body: &[u8], limit: usize) -> Result<Vec<u8>, DecodeError> {
    let mut asked = 0;
    let result = decode(coding, body, ByteSize::from(limit), &mut |bytes| {
        assert!(bytes.as_usize() <= limit, "{coding}: asked for {bytes} of {limit}");
        asked = asked.max(bytes.as_usize());
        Ok(())
    });
    if let Ok(bytes) = &result {
        assert!(bytes.len() <= limit && bytes.capacity() <= limit + 1, "{coding}");
        assert!(bytes.capacity() <= asked.max(1) + 1, "{coding}: holds {} but asked for {asked}", bytes.capacity());
    }
    result
}

fn deflated(coding: Coding, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(coding, None, parts, &mut out).unwrap();
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

/// What the plain library makes of it.
fn plain_encode(coding: Coding, data: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::new(6);
    let read = |mut reader: Box<dyn Read + '_>| {
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        out
    };
    match coding {
        Coding::Identity => data.to_vec(),
        Coding::Gzip => read(Box::new(flate2::read::GzEncoder::new(data, level))),
        Coding::Zlib => read(Box::new(flate2::read::ZlibEncoder::new(data, level))),
        Coding::Deflate => read(Box::new(flate2::read::DeflateEncoder::new(data, level))),
        Coding::Zstd => ::zstd::stream::encode_all(data, 3).unwrap(),
        Coding::Snappy => snap::raw::Encoder::new().compress_vec(data).unwrap(),
        Coding::SnappyFramed => read(Box::new(snap::read::FrameEncoder::new(data))),
        Coding::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn plain_decode(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Identity => out.extend_from_slice(body),
        Coding::Gzip => drop(flate2::read::MultiGzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Coding::Zlib | Coding::Deflate => drop(flate2::read::ZlibDecoder::new(body).read_to_end(&mut out).unwrap()),
        Coding::Zstd => out = ::zstd::stream::decode_all(body).unwrap(),
        Coding::Snappy => out = snap::raw::Decoder::new().decompress_vec(body).unwrap(),
        Coding::SnappyFramed => drop(snap::read::FrameDecoder::new(body).read_to_end(&mut out).unwrap()),
        Coding::Lz4 => drop(lz4_flex::frame::FrameDecoder::new(body).read_to_end(&mut out).unwrap()),
    }
    out
}

/// Bytes that repeat themselves about as much as telemetry does.
fn telemetry(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut out = Vec::with_capacity(length + 32);
    while out.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(b"service.name\x12\x0acheckout-");
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        proptest::collection::vec(proptest::sample::select(vec![0u8, 1, 0x1f, 0x8b, 8]), 0..3000),
        (0usize..20_000).prop_map(telemetry),
    ]
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("OTLPD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_coding_agrees_with_the_plain_library_both_ways(data in data(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(data.len() + 1);
        for coding in Coding::ALL {
            prop_assert_eq!(&inflate(coding, &plain_encode(coding, &data), data.len()).unwrap(), &data, "{} in", coding);
            let ours = deflated(coding, &[&data[..cut], &data[cut..]]);
            prop_assert_eq!(&plain_decode(coding, &ours), &data, "{} out", coding);
            prop_assert_eq!(&inflate(coding, &ours, MIB).unwrap(), &data, "{} round", coding);
            if !data.is_empty() {
                let limit = data.len() - 1;
                let result = inflate(coding, &ours, limit);
                prop_assert_eq!(result, Err(DecodeError::TooLarge { limit: ByteSize::from(limit) }), "{}", coding);
            }
        }
    }

    #[test]
    fn damaged_bodies_neither_panic_nor_exceed_the_limit(
        data in data(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        for coding in Coding::ALL {
            let mut body = plain_encode(coding, &data);
            if body.is_empty() {
                continue;
            }
            let at = at.index(body.len());
            body[at] ^= flip;
            if let Ok(inflated) = inflate(coding, &body, MIB)
                && matches!(coding, Coding::Gzip | Coding::Zlib)
            {
                // Only a bit that says nothing about the data can be wrong and go unnoticed.
                prop_assert_eq!(&inflated, &data);
            }
        }
    }

    #[test]
    fn noise_neither_panics_nor_exceeds_the_limit(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        for coding in Coding::ALL {
            let start = plain_encode(coding, b"begin");
            for keep in [0, 4, 10] {
                let mut body = start[..keep.min(start.len())].to_vec();
                body.extend_from_slice(&noise);
                let _ = inflate(coding, &body, 4096);
            }
        }
    }
}

#[test]
fn bodies_of_all_sizes_and_levels_come_back() {
    for length in [0, 1, 4095, 4096, 128 << 10, (128 << 10) + 1, 300_000, 2 * MIB] {
        let data = telemetry(length);
        let parts: Vec<&[u8]> = data.chunks(70_000).collect();
        for coding in Coding::ALL {
            assert!(plain_decode(coding, &deflated(coding, &parts)) == data, "{coding} {length}");
            assert!(inflate(coding, &deflated(coding, &parts), length).unwrap() == data, "{coding} {length}");
            assert!(inflate(coding, &plain_encode(coding, &data), length).unwrap() == data, "{coding} {length}");
        }
        for (coding, level) in [(Coding::Gzip, -2), (Coding::Zlib, 9), (Coding::Gzip, -1), (Coding::Zstd, 22)] {
            let mut out = Vec::new();
            encode(coding, Some(level), &parts, &mut out).unwrap();
            assert!(plain_decode(coding, &out) == data, "{coding} {level} {length}");
        }
    }
}

#[test]
fn a_body_cut_short_is_corrupt() {
    for coding in [Coding::Gzip, Coding::Zlib, Coding::Deflate, Coding::Zstd, Coding::Snappy, Coding::Lz4] {
        let body = plain_encode(coding, &telemetry(5000));
        for length in 0..body.len() {
            let result = inflate(coding, &body[..length], MIB);
            assert!(matches!(result, Err(DecodeError::Corrupt { .. })), "{coding} cut to {length}: {result:?}");
        }
    }
}

#[test]
fn gzip_members_are_joined() {
    let (one, two) = (telemetry(3000), telemetry(40));
    for members in [vec![&one, &two], vec![&two, &two, &two], vec![&one, &vec![]], vec![&vec![], &two]] {
        let body: Vec<u8> = members.iter().flat_map(|member| plain_encode(Coding::Gzip, member)).collect();
        assert_eq!(
            inflate(Coding::Gzip, &body, MIB).unwrap(),
            members.into_iter().flatten().copied().collect::<Vec<_>>()
        );
    }
}

#[test]
fn gzip_headers_with_every_field_are_read() {
    let data = telemetry(500);
    let mut body = flate2::GzBuilder::new().filename("a").comment("b").extra(vec![1, 2, 3]).mtime(5);
    for again in [false, true] {
        let mut encoder = body.write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&data).unwrap();
        let mut bytes = encoder.finish().unwrap();
        assert_eq!(inflate(Coding::Gzip, &bytes, MIB).unwrap(), data);
        if again {
            bytes.extend_from_slice(&plain_encode(Coding::Gzip, b"two"));
            assert_eq!(inflate(Coding::Gzip, &bytes, MIB).unwrap(), [&data[..], b"two"].concat());
        }
        body = flate2::GzBuilder::new().filename("a").comment("b").extra(vec![1, 2, 3]);
    }
}

#[test]
fn gzip_with_a_wrong_checksum_size_or_tail_is_corrupt() {
    let body = plain_encode(Coding::Gzip, &telemetry(3000));
    let end = body.len();
    for (at, what) in
        [(end - 8, "crc"), (end - 4, "size"), (end - 1, "size"), (0, "magic"), (2, "method"), (end / 2, "data")]
    {
        let mut body = body.clone();
        body[at] ^= 1;
        assert!(matches!(inflate(Coding::Gzip, &body, MIB), Err(DecodeError::Corrupt { .. })), "{what}");
    }
    for tail in [&b"x"[..], b"garbage!", &[0; 512]] {
        let body = [&body, tail].concat();
        assert!(matches!(inflate(Coding::Gzip, &body, MIB), Err(DecodeError::Corrupt { .. })), "{tail:?}");
    }
}

#[test]
fn the_size_in_a_gzip_trailer_is_only_a_hint() {
    // A second member that is empty makes the last size zero, whatever the first inflates to.
    let data = telemetry(3 * MIB);
    let mut body = plain_encode(Coding::Gzip, &data);
    body.extend_from_slice(&plain_encode(Coding::Gzip, b""));
    assert!(inflate(Coding::Gzip, &body, 3 * MIB).unwrap() == data);
    let limit = ByteSize::from(3 * MIB - 1);
    assert_eq!(inflate(Coding::Gzip, &body, 3 * MIB - 1), Err(DecodeError::TooLarge { limit }));
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let zeros = vec![0; MIB];
    let parts = vec![&zeros[..]; 64];
    for coding in Coding::ALL {
        let bomb =
            if coding == Coding::Snappy { plain_encode(coding, &parts.concat()) } else { deflated(coding, &parts) };
        let mut asked = ByteSize::ZERO;
        let mut buffer = Vec::new();
        let result = decode_into(coding, &bomb, ByteSize::from(MIB), &mut buffer, &mut |bytes| {
            asked = asked.max(bytes);
            Ok(())
        });
        assert_eq!(result, Err(DecodeError::TooLarge { limit: ByteSize::from(MIB) }), "{coding}");
        assert!(asked.as_usize() <= MIB && buffer.capacity() <= MIB + 1, "{coding}: {asked}, {}", buffer.capacity());
        assert!(buffer.is_empty());
    }
}

#[test]
fn a_size_that_is_made_up_takes_no_memory() {
    // 20 bytes that claim to be 900 MiB.
    let snappy = [0x80, 0x80, 0x80, 0xc2, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    zstd.extend_from_slice(&(900u32 << 20).to_le_bytes());
    zstd.extend_from_slice(&[0; 11]);
    let mut gzip = plain_encode(Coding::Gzip, b"a");
    let end = gzip.len();
    gzip[end - 4..].copy_from_slice(&(900u32 << 20).to_le_bytes());
    for (coding, body) in [(Coding::Snappy, &snappy[..]), (Coding::Zstd, &zstd), (Coding::Gzip, &gzip)] {
        let mut asked = ByteSize::ZERO;
        let result = decode(coding, body, ByteSize::mib(1000), &mut |bytes| {
            asked = asked.max(bytes);
            Ok(())
        });
        assert!(matches!(result, Err(DecodeError::Corrupt { .. })), "{coding}: {result:?}");
        assert!(asked <= ByteSize::from(64 << 10), "{coding}: asked for {asked}");
    }
}

#[test]
fn a_refused_reservation_ends_it() {
    let data = telemetry(MIB);
    for coding in Coding::ALL {
        let failure = Failure::refused(Reason::MEMORY_BUDGET, "no room");
        let result = decode(coding, &plain_encode(coding, &data), ByteSize::from(MIB), &mut |bytes| {
            if bytes.as_usize() > MIB / 2 { Err(failure.clone()) } else { Ok(()) }
        });
        assert_eq!(result, Err(DecodeError::Refused(failure.clone())), "{coding}");
    }
}

#[test]
fn a_body_that_fits_is_not_refused_for_a_guess() {
    let data = telemetry(600_000);
    for coding in Coding::ALL {
        let decoded = decode(coding, &plain_encode(coding, &data), ByteSize::from(MIB), &mut |bytes| {
            if bytes.as_usize() > 700_000 { Err(Failure::refused(Reason::MEMORY_BUDGET, "no room")) } else { Ok(()) }
        });
        assert!(decoded.is_ok_and(|decoded| decoded == data), "{coding}");
    }
}

#[test]
fn a_reserve_that_decodes_itself_is_no_trouble() {
    let body = plain_encode(Coding::Gzip, &telemetry(5000));
    let mut inner = 0;
    let outer = decode(Coding::Gzip, &body, ByteSize::from(MIB), &mut |_| {
        inner += inflate(Coding::Gzip, &body, MIB).unwrap().len();
        Ok(())
    });
    assert_eq!((outer.unwrap().len(), inner), (5000, 5000));
}

#[test]
fn zstd_takes_several_frames_streams_without_a_size_and_windows_up_to_8_mib() {
    let data = telemetry(300_000);
    let stream = |window: u32| {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.set_parameter(::zstd::zstd_safe::CParameter::WindowLog(window)).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(&data).unwrap();
        encoder.finish().unwrap()
    };
    assert!(inflate(Coding::Zstd, &stream(23), MIB).unwrap() == data);
    assert!(matches!(inflate(Coding::Zstd, &stream(24), MIB), Err(DecodeError::Corrupt { .. })));
    let frames = [stream(20), deflated(Coding::Zstd, &[&data]), b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec()].concat();
    assert!(inflate(Coding::Zstd, &frames, MIB).unwrap() == [&data[..], &data].concat());
    let mut wrong = stream(20);
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(inflate(Coding::Zstd, &wrong, MIB), Err(DecodeError::Corrupt { .. })));
    assert!(inflate(Coding::Zstd, &stream(20), MIB).unwrap() == data, "after a failure");
}

#[test]
fn lz4_takes_several_frames_of_different_block_sizes() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let data = telemetry(200_000);
    let frame = |size, mode| {
        let info = FrameInfo::new().block_size(size).block_mode(mode).block_checksums(true).content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info.content_size(Some(data.len() as u64)), Vec::new());
        encoder.write_all(&data).unwrap();
        encoder.finish().unwrap()
    };
    let big = frame(BlockSize::Max4MB, BlockMode::Independent);
    let small = frame(BlockSize::Max64KB, BlockMode::Linked);
    assert!(inflate(Coding::Lz4, &[big.clone(), small.clone()].concat(), MIB).unwrap() == [&data[..], &data].concat());
    for tail in [&b"x"[..], b"garbage", &small[..20]] {
        let result = inflate(Coding::Lz4, &[&big, tail].concat(), MIB);
        assert!(matches!(result, Err(DecodeError::Corrupt { .. })), "{result:?}");
    }
}

#[test]
fn snappy_tells_block_and_framed_apart() {
    let data = telemetry(200_000);
    for (coding, sent) in [
        (Coding::Snappy, Coding::SnappyFramed),
        (Coding::SnappyFramed, Coding::Snappy),
        (Coding::SnappyFramed, Coding::SnappyFramed),
        (Coding::Snappy, Coding::Snappy),
    ] {
        assert!(inflate(coding, &plain_encode(sent, &data), MIB).unwrap() == data, "{sent} as {coding}");
    }
}

#[test]
fn names_are_read_as_http_and_the_collector_write_them() {
    for (value, header, config) in [
        ("", Some(Coding::Identity), Some(Coding::Identity)),
        ("none", None, Some(Coding::Identity)),
        ("identity", Some(Coding::Identity), None),
        ("gzip", Some(Coding::Gzip), Some(Coding::Gzip)),
        (" GZip ", Some(Coding::Gzip), None),
        ("x-gzip", Some(Coding::Gzip), None),
        ("ZSTD", Some(Coding::Zstd), None),
        ("deflate", Some(Coding::Deflate), Some(Coding::Deflate)),
        ("x-snappy-framed", Some(Coding::SnappyFramed), Some(Coding::SnappyFramed)),
        ("br", None, None),
        ("gzip, gzip", None, None),
    ] {
        assert_eq!(Coding::from_header(value), header, "{value}");
        assert_eq!(Coding::from_config(value), config, "{value}");
    }
    for coding in Coding::ALL {
        assert_eq!(Coding::from_header(coding.as_str()), Some(coding));
        assert!(coding.is_built() && coding.has_level(0));
    }
}

#[test]
fn levels_that_a_coding_does_not_have_are_named() {
    for (coding, level) in [(Coding::Gzip, 10), (Coding::Zlib, -3), (Coding::Snappy, 1), (Coding::Lz4, 1)] {
        let mut out = b"kept".to_vec();
        assert_eq!(encode(coding, Some(level), &[b"a"], &mut out), Err(EncodeError::Level { coding, level }));
        assert_eq!(out, b"kept");
    }
}

#[test]
fn errors_say_what_the_sender_should_do() {
    let corrupt = DecodeError::Corrupt { coding: Coding::Gzip, detail: "cut short" };
    for (error, code, reason) in [
        (DecodeError::TooLarge { limit: ByteSize::mib(64) }, crate::Code::ResourceExhausted, Reason::TOO_LARGE),
        (corrupt.clone(), crate::Code::InvalidArgument, Reason::MALFORMED),
        (DecodeError::Unsupported, crate::Code::Unimplemented, Reason::UNSUPPORTED),
    ] {
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.reason, failure.is_retryable()), (code, reason, false));
    }
    assert_eq!(corrupt.to_string(), "the body is not valid gzip: cut short");
    let refused = Failure::refused(Reason::MEMORY_BUDGET, "no room");
    assert_eq!(Failure::from(DecodeError::Refused(refused.clone())), refused);
}
