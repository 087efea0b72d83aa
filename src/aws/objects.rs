//! S3: what commands wrote.
//!
//! Owns reading one object, listing and removing everything below a prefix, and the question whether the bucket can be
//! used at all. Called for the outputs of commands and by cleaning up.

use super::error::{Error, Kind};
use super::session::{Session, of_sdk};

impl Session {
    /// The object's bytes; `None` when there is none (yet).
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let action = "s3:GetObject";
        let answer = self.s3.get_object().bucket(bucket).key(key).send().await;
        let object = match answer {
            Ok(object) => object,
            Err(error) => {
                let error = of_sdk(action, &error);
                return if error.kind == Kind::NotFound && error.code != "NoSuchBucket" {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
        };
        match object.body.collect().await {
            Ok(bytes) => Ok(Some(bytes.into_bytes().into())),
            Err(error) => Err(Error::new(action, Kind::NoAnswer, error.to_string())),
        }
    }

    /// The keys below a prefix.
    pub async fn objects(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let action = "s3:ListBucket";
        let mut keys = Vec::new();
        let mut next = None;
        loop {
            let page = self
                .s3
                .list_objects_v2()
                .bucket(bucket)
                .prefix(prefix)
                .set_continuation_token(next)
                .send()
                .await
                .map_err(|error| of_sdk(action, &error))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key().map(str::to_owned)),
            );
            next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Removes everything below a prefix; says how much that was. The prefix has to end with a slash, so that no
    /// neighbour's name begins with it.
    pub async fn remove_objects(&self, bucket: &str, prefix: &str) -> Result<usize, Error> {
        let action = "s3:DeleteObject";
        if !prefix.ends_with('/') || prefix.len() < 2 {
            let why = format!("{prefix:?} is no folder");
            return Err(Error::new(action, Kind::Invalid, why));
        }
        let keys = self.objects(bucket, prefix).await?;
        // One by one: the call for many needs another permission and a checksum, and there are a few dozen.
        for key in &keys {
            self.s3
                .delete_object()
                .bucket(bucket)
                .key(key)
                .send()
                .await
                .map_err(|error| of_sdk(action, &error))?;
        }
        Ok(keys.len())
    }

    /// Whether the bucket is there, in this region and ours to use.
    pub async fn check_bucket(&self, bucket: &str) -> Result<(), Error> {
        let action = "s3:HeadBucket";
        match self.s3.head_bucket().bucket(bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut error = of_sdk(action, &error);
                if error.kind == Kind::NotFound {
                    error.message = format!("there is no bucket {bucket:?}");
                }
                Err(error)
            }
        }
    }
}
