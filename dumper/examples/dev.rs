use ckptfs_dumper::*;
use std::io::{Read, Write};
fn main() {
    env_logger_init();
    let a: Vec<String> = std::env::args().collect();
    let o = Options { freeze_timeout: std::time::Duration::from_secs(5), cgroup: None };
    match a[1].as_str() {
        "dump" => {
            let pid: i32 = a[2].parse().unwrap();
            let t = Tracer::new(pid, o).unwrap();
            let s = match t.snapshot(None) {
                Ok(s) => s,
                Err(e) => {
                    eprintln!("dump: {e}");
                    std::process::exit(1)
                }
            };
            eprintln!("stopped {:?} len {}", s.stopped(), s.image_len());
            let mut f = std::fs::File::create(&a[3]).unwrap();
            let mut off = 0;
            while off < s.image_len() {
                let p = s.read_image(off, 1 << 20).unwrap();
                f.write_all(&p).unwrap();
                off += p.len() as u64;
            }
            if a.len() > 4 {
                println!("{}", s.info_json(pid).unwrap());
                println!("{}", s.maps(pid).unwrap());
            }
        }
        "restore" => {
            let mut r = Restorer::new().unwrap();
            let mut f = std::fs::File::open(&a[2]).unwrap();
            let mut b = vec![0; 1 << 20];
            loop {
                let n = f.read(&mut b).unwrap();
                if n == 0 {
                    break;
                }
                if let Err(e) = r.write(&b[..n]) {
                    eprintln!("restore: {e}");
                    std::process::exit(1)
                }
            }
            eprintln!("finish {:?} {:?}", r.finish(), r.restored());
            std::process::exit(0)
        }
        _ => {}
    }
}
struct L;
impl log::Log for L {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }
    fn log(&self, r: &log::Record) {
        eprintln!("[{}] {}", r.level(), r.args())
    }
    fn flush(&self) {}
}
fn env_logger_init() {
    static L1: L = L;
    let _ = log::set_logger(&L1);
    log::set_max_level(log::LevelFilter::Debug);
}
