//! tmp
use trivec::*;
#[test] fn t() {
    let a=Model::starter().unwrap(); let b=Model::load("/tmp/st-int8.safetensors").unwrap(); let c=Model::load("/tmp/st-int4.safetensors").unwrap();
    let o=EncodeOptions{modes:Modes::ALL,..Default::default()};
    let texts:Vec<String>=std::fs::read_to_string("tests/data/fidelity.txt").unwrap().lines().map(str::to_owned).collect();
    let ids:Vec<Vec<u32>>=texts.iter().map(|t| a.tokenize(t,&o).unwrap().tokens.iter().map(|t|t.id).collect()).collect();
    let (x,y,z)=(a.encode_ids(&ids,&o).unwrap(),b.encode_ids(&ids,&o).unwrap(),c.encode_ids(&ids,&o).unwrap());
    let cos=|a:&Embedding,b:&Embedding| a.dense.as_ref().unwrap().iter().zip(b.dense.as_ref().unwrap()).map(|(a,b)|a*b).sum::<f32>();
    let mut v:Vec<(f32,f32,usize)>=(0..300).map(|i|(cos(&x[i],&y[i]),cos(&x[i],&z[i]),i)).collect(); v.sort_by(|a,b|a.0.total_cmp(&b.0));
    let n:usize=v.iter().map(|_|1).sum(); let m=v.iter().map(|v|v.0 as f64).sum::<f64>()/n as f64; let m4=v.iter().map(|v|v.1 as f64).sum::<f64>()/n as f64;
    let top=|e:&Embedding|{let mut w:Vec<(u32,f32)>=e.lexical.as_ref().unwrap().iter().collect(); w.sort_by(|a,b|b.1.total_cmp(&a.1)); let mut k:Vec<u32>=w.iter().take(5).map(|p|p.0).collect();k.sort();k};
    let same=|z:&[Embedding]| (0..300).filter(|&i| top(&x[i])==top(&z[i])).count();
    let le=|z:&[Embedding]| (0..300).map(|i|{let (a,b)=(x[i].lexical.as_ref().unwrap(),z[i].lexical.as_ref().unwrap()); let s:f32=a.iter().map(|p|p.1).sum(); let d:f32=a.iter().map(|(k,w)|(b.iter().find(|q|q.0==k).map_or(0.0,|q|q.1)-w).abs()).sum(); if s>0.0{d/s}else{0.0}}).sum::<f32>()/300.0;
    println!("RES int8 mean {m:.6} min {:.5} {:.5} {:.5} same {} le {:.4} | int4 mean {m4:.6} min {:.5} same {} le {:.4}", v[0].0,v[1].0,v[2].0,same(&y),le(&y),v.iter().map(|v|v.1).fold(1.0,f32::min),same(&z),le(&z));
}
